import math
from pathlib import Path

import pytest
from support.records import measured

from admm_exp.app.sweep_job import noted
from admm_exp.errors import StoppedError
from admm_exp.results import IterationRecord
from admm_exp.sweep.job import Job, JobObserver, read_job, write_job


def observer(folder: Path, *limits: float) -> JobObserver:
    write_job(folder / "0.json", Job("rho=1", "abc", limits=limits))
    return JobObserver(folder / "0.json")


def record(iteration: int, dead_energy: float) -> IterationRecord:
    numbers = vars(measured(dead_energy=dead_energy))
    accuracies = {"val_accuracy": 0.9, "projected_val_accuracy": 0.8}
    return IterationRecord(**numbers, **accuracies, iteration=iteration)


def test_a_run_above_its_limit_is_ended(tmp_path: Path) -> None:
    watch = observer(tmp_path, math.inf, 0.05)
    watch.iteration_finished(record(1, 0.9))
    watch.iteration_finished(record(2, 0.05))
    with pytest.raises(StoppedError, match=r"iteration 2 would cut 6\.0% .* allow 5\.0%"):
        watch.iteration_finished(record(2, 0.06))


def test_without_limits_nothing_is_ended(tmp_path: Path) -> None:
    watch = observer(tmp_path)
    watch.iteration_finished(record(7, 1.0))
    assert watch.iterations == [record(7, 1.0)]


def test_warnings_reach_the_file_of_the_job(tmp_path: Path) -> None:
    watch = observer(tmp_path)
    watch.warned("rho is too small")
    watch.warned("rho is too large")
    assert read_job(tmp_path / "0.json").warnings == ("rho is too small", "rho is too large")


def test_a_job_that_its_search_ends_is_stopped_and_has_not_failed(tmp_path: Path) -> None:
    path, run_dir = tmp_path / "0.json", tmp_path / "run"
    run_dir.mkdir()
    write_job(path, Job("rho=1", "abc"))
    with pytest.raises(StoppedError), noted(path, run_dir):
        raise StoppedError("behind the others")
    assert (read_job(path).status, read_job(path).error) == ("stopped", "behind the others")
    assert list(run_dir.iterdir()) == []  # no traceback is kept
