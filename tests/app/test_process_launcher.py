"""What the launcher `process` says where it cannot help."""

import sys
from pathlib import Path

import pytest

import admm_exp.app
from admm_exp.app import main  # noqa: F401

sys.path.append(str(Path(admm_exp.app.__file__).parent / "_plugins"))
from hydra_plugins.admm_exp.launcher import lost_seconds, scarce_cpus


@pytest.mark.parametrize(("n_jobs", "cpus"), [(1, 1), (2, 2), (2, 8)])
def test_enough_cpus_need_no_word(n_jobs: int, cpus: int) -> None:
    assert scarce_cpus(n_jobs, cpus) is None


def test_more_jobs_than_cpus_are_said_to_take_turns() -> None:
    assert (
        scarce_cpus(4, 1) == "hydra.launcher.n_jobs=4, but 1 CPU is free for them: they take turns"
    )


def test_processes_that_saved_nothing_are_told_of() -> None:
    said = lost_seconds([3.0, 3.0, 4.0], 18.2)
    assert said is not None
    assert "saved no time: 3 jobs took 18 s" in said
    assert "worked 10 s in all" in said


@pytest.mark.parametrize(("seconds", "took"), [([30.0, 30.0], 35.0), ([3.0], 9.0), ([], 0.0)])
def test_processes_that_saved_time_are_not(seconds: list[float], took: float) -> None:
    assert lost_seconds(seconds, took) is None
