import json
from pathlib import Path

import pytest

from admm_exp.errors import CheckpointError
from admm_exp.sweep.job import (
    Job,
    Status,
    begin_job,
    end_job,
    find_job,
    interrupt_job,
    job_path,
    read_job,
    warn_job,
    write_job,
)


def test_a_job_comes_back_as_it_was_written(tmp_path: Path) -> None:
    job = Job("rho=1", "abc", "parent", status="failed", error="it's broken", seconds=1.5)
    write_job(tmp_path / "jobs" / "0.json", job)
    assert read_job(tmp_path / "jobs" / "0.json") == job
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["0.json"]


def test_a_job_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(json.dumps({"name": "rho=1", "config_hash": "abc"}))
    assert read_job(tmp_path / "0.json") == Job("rho=1", "abc")


def test_a_job_begins_and_ends_once(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("rho=1", "abc"))
    begin_job(path, tmp_path / "run")
    end_job(path, "failed", "first")
    end_job(path, "killed", "second")
    job = read_job(path)
    assert (job.status, job.error, job.run_dir) == ("failed", "first", str(tmp_path / "run"))


def test_a_job_that_failed_begins_again_as_if_new(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("rho=1", "abc", "parent", status="failed", error="a bad mood", seconds=9.0))
    begin_job(path, tmp_path / "run")
    end_job(path, "finished")
    job = read_job(path)
    assert (job.name, job.parent_run_id, job.status, job.error) == (
        *("rho=1", "parent", "finished"),
        None,
    )
    assert job.seconds < 1.0


def test_a_run_knows_its_job(tmp_path: Path) -> None:
    for number in (0, 1):
        write_job(job_path(tmp_path, number), Job(f"rho={number}", "abc"))
        begin_job(job_path(tmp_path, number), tmp_path / f"run{number}")
    assert find_job(tmp_path / "run1") == job_path(tmp_path, 1)
    assert find_job(tmp_path / "run2") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"name": "rho=1"}',
        '{"name": 1, "config_hash": "a"}',
        '{"name": "a", "config_hash": "a", "status": "odd"}',
        '{"name": "a", "config_hash": "a", "status": []}',
        '{"name": "a", "config_hash": "a", "run_dir": 3}',
        '{"name": "a", "config_hash": "a", "limits": 3}',
        '{"name": "a", "config_hash": "a", "limits": ["x"]}',
        '{"name": "a", "config_hash": "a", "warnings": [1]}',
        '{"name": "a", "config_hash": "a", "started": "now"}',
        '{"name": "a", "config_hash": "a", "colour": 1}',
        "[" * 100_000,
    ],
)
def test_a_damaged_job_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "0.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"0\.json is damaged \("):
        read_job(path)


def test_an_interrupted_job_is_not_over_and_goes_on_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("rho=1", "abc"))
    assert not read_job(path).goes_on_in(tmp_path / "run")
    begin_job(path, tmp_path / "run")
    warn_job(path, "rho is too large")
    interrupt_job(path)
    job = read_job(path)
    assert (job.status, job.is_over) == ("interrupted", False)
    assert job.goes_on_in(tmp_path / "run")
    assert not job.goes_on_in(tmp_path / "another")
    begin_job(path, tmp_path / "run")
    assert read_job(path).warnings == ("rho is too large",)


def test_what_failed_or_was_left_by_an_earlier_sweep_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("rho=1", "abc"))
    begin_job(path, tmp_path / "run")
    end_job(path, "failed", "a bad mood")
    assert not read_job(path).goes_on_in(tmp_path / "run")
    begin_job(path, tmp_path / "run")
    write_job(path, Job("rho=1", "abc"))
    assert not read_job(path).goes_on_in(tmp_path / "run")


def test_the_time_of_a_job_is_that_of_all_its_pieces(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("rho=1", "abc", status="interrupted", run_dir="run", seconds=60.0))
    begin_job(path, Path("run"))
    end_job(path, "finished")
    assert 60.0 <= read_job(path).seconds < 61.0


def test_only_a_job_that_runs_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("rho=1", "abc", status="finished", seconds=2.0))
    interrupt_job(path)
    assert read_job(path) == Job("rho=1", "abc", status="finished", seconds=2.0)


@pytest.mark.parametrize("status", ["waiting", "failed", "stopped"])
def test_a_job_that_has_not_begun_or_was_given_up_goes_on_in_no_folder(
    tmp_path: Path, status: Status
) -> None:
    assert not Job("a", "h", status=status, run_dir=str(tmp_path)).goes_on_in(tmp_path)
    assert Job("a", "h", status="interrupted", run_dir=str(tmp_path)).goes_on_in(tmp_path)


def full(descriptor: int) -> None:
    """Be the disk that has no room for what was written."""
    raise OSError(28, "full")


def test_a_write_that_is_cut_off_leaves_the_job_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.json"
    write_job(path, Job("a", "h"))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=f"full: '{path}'"):
        write_job(path, Job("b", "h"))
    assert read_job(path) == Job("a", "h")
    assert list(tmp_path.iterdir()) == [path]
