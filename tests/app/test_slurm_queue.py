"""What the launcher makes of Slurm's queue, from answers that are given."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import admm_exp.app
from admm_exp.app import (
    main,  # noqa: F401
    slurm_queue,
)
from admm_exp.app.run_folder import lock_of
from admm_exp.app.sweep_folder import LOCK
from admm_exp.sweep.job import Job, end_job, job_path, read_job, write_job

sys.path.append(str(Path(admm_exp.app.__file__).parent / "_plugins"))
from hydra_plugins.admm_exp import slurm

HELD = "7 0 8 launch failed requeued held\n7 1 7 None\n9 N/A 9 JobHeldAdmin\n"


def test_ids_of_arrays_and_of_single_jobs_are_found_with_their_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm_queue, "ask", lambda *_: HELD)
    found = slurm_queue.queued({"7_0": Path(), "7_1": Path(), "9": Path()})
    assert found is not None
    reasons = {key: found[key] for key in ("7_0", "7_1", "9")}
    assert reasons == {
        "7_0": "launch failed requeued held",
        "7_1": "None",
        "9": "JobHeldAdmin",
    }


def test_a_job_that_slurm_holds_is_told_once_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, answers = job_path(tmp_path, 0), [HELD, HELD, "7 0 8 None\n"]
    write_job(path, Job("rho=1", "abc"))

    def ask(*command: str) -> str:
        answer = answers.pop(0)
        if not answers:
            end_job(path, "finished")
        return answer

    monkeypatch.setattr(slurm_queue, "ask", ask)
    slurm._wait({"7_0": path}, poll_seconds=0.0, gone_seconds=60.0)
    assert read_job(path).status == "finished"
    assert capsys.readouterr().out == (
        "Slurm holds job 7_0 (launch failed requeued held): scontrol release 7_0 lets it go on\n"
    )


OLD, NEW = "outputs/sweeps/old", "outputs/sweeps/new"


def left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job, queue: str) -> list[str]:
    """Return the ids of what a new sweep of two jobs finds in a queue; {old} is an earlier one."""
    old, new = tmp_path / OLD, tmp_path / NEW
    for number, name in ((0, "x"), (4, "abc"), (5, "def")):
        write_job(job_path(old, number), replace(job, config_hash=name))
    paths = [job_path(new, number) for number in range(2)]
    for path, name in zip(paths, ("abc", "def"), strict=True):
        write_job(path, Job("rho=1", name, "parent"))
    monkeypatch.setattr(slurm_queue, "ask", lambda *_: queue.format(old=old))
    found = slurm_queue.left_behind(paths, new)
    for path, left in found.items():
        assert read_job(path).config_hash == read_job(left.path).config_hash
    return [left.key for left in found.values()]


RUNNING = Job("rho=1", "", "parent", status="running")
QUEUE = "7 0 {old}/.submitit/4/.file.sh\n7 1 {old}/.submitit/4/.file.sh\n"


def test_what_a_command_that_died_has_left_on_slurm_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert left_behind(tmp_path, monkeypatch, RUNNING, QUEUE) == ["7_0", "7_1"]
    waiting = replace(RUNNING, status="waiting")
    assert left_behind(tmp_path, monkeypatch, waiting, QUEUE) == ["7_0", "7_1"]


def test_what_a_living_command_has_on_slurm_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(job_path(tmp_path / OLD, 0).with_name(LOCK))
    assert lock is not None
    assert left_behind(tmp_path, monkeypatch, RUNNING, QUEUE) == []
    lock.release()
    assert left_behind(tmp_path, monkeypatch, RUNNING, QUEUE) == ["7_0", "7_1"]


@pytest.mark.parametrize(
    ("job", "queue"),
    [
        (replace(RUNNING, parent_run_id="another"), QUEUE),
        (replace(RUNNING, status="failed"), QUEUE),
        (RUNNING, QUEUE.replace("/4/", "/5/").replace("7 0", "8 1")),
        (RUNNING, "7 0 {old}/4/.file.sh\n7 0 /home/job.sh\n7 N/A (null)\n8 0\n\n"),
        (RUNNING, ""),
    ],
    ids=["another sweep's", "over", "beyond the folder's jobs", "no jobs of ours", "nothing"],
)
def test_nothing_else_on_slurm_is_taken_for_a_job_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job, queue: str
) -> None:
    assert left_behind(tmp_path, monkeypatch, job, queue) == []
