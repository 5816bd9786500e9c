"""A sweep's jobs, batch by batch."""

from pathlib import Path

from support.method_toy import config_of

from admm_exp.app.parent_run import JobSpec, Sweep
from admm_exp.sweep.job import end_job, job_path, read_job
from admm_exp.sweep.terminal import SweepTerminal
from admm_exp.tracking.tracker import NullTracker


def test_no_two_batches_of_a_search_number_their_jobs_alike(tmp_path: Path) -> None:
    begun: list[int] = []

    def launch(overrides, first):
        for number in range(first, first + len(overrides)):
            begun.append(number)
            end_job(job_path(tmp_path, number), "stopped", "")
        return ()

    sweep = Sweep("t", "e", tmp_path, NullTracker(), SweepTerminal(6), lambda keys: {}, launched=3)
    for batch in (["rho=1", "rho=2"], ["rho=3"], ["rho=4", "rho=5", "rho=6"]):
        sweep.run([JobSpec(name, [name], config_of(name)) for name in batch], launch)
    assert begun == [3, 4, 5, 6, 7, 8]
    names = [read_job(job_path(tmp_path, number)).name for number in begun]
    assert names == [f"rho={number}" for number in range(1, 7)]
