"""What the launcher makes of Slurm's queue, from answers that are given."""

import sys
from pathlib import Path

import pytest

import admm_exp.app
from admm_exp.app import main  # noqa: F401
from admm_exp.sweep.job import Job, end_job, job_path, read_job, write_job

sys.path.append(str(Path(admm_exp.app.__file__).parent / "_plugins"))
from hydra_plugins.admm_exp import slurm

HELD = "7 0 8 launch failed requeued held\n7 1 7 None\n9 N/A 9 JobHeldAdmin\n"


def test_ids_of_arrays_and_of_single_jobs_are_found_with_their_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm, "_ask", lambda *_: HELD)
    found = slurm._queued({"7_0": Path(), "7_1": Path(), "9": Path()})
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

    monkeypatch.setattr(slurm, "_ask", ask)
    slurm._wait({"7_0": path}, poll_seconds=0.0, gone_seconds=60.0)
    assert read_job(path).status == "finished"
    assert capsys.readouterr().out == (
        "Slurm holds job 7_0 (launch failed requeued held): scontrol release 7_0 lets it go on\n"
    )
