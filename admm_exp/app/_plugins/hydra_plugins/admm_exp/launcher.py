"""Several jobs at once on one machine, in processes; a job that dies costs itself alone."""

import os
import signal
import time
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from admm_exp.training.processes import usable_cores

if TYPE_CHECKING:
    from admm_exp.app.worker import Worker

__all__ = ["ProcessLauncher"]

GRACE_SECONDS = 10.0


class ProcessLauncher(Launcher):
    """Run so many jobs at a time, in processes that take one after the other.

    Args:
        n_jobs: Jobs at once.
        gpus: GPU of each slot in turn; None leaves all GPUs to all jobs.
        threads: CPU threads of each job.
    """

    def __init__(self, n_jobs: int, gpus: Sequence[int | str] | None, threads: int) -> None:
        self._gpus = gpus
        self._threads_each = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._n_jobs, self._free = n_jobs, list(range(n_jobs))
        self._workers: dict[int, Worker] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives every launcher."""
        self._hydra_context, self._task_function = hydra_context, task_function
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return when all are over."""
        from admm_exp.app.preloaded import modules
        from admm_exp.app.worker import context

        waiting = list(enumerate(job_overrides, start=initial_job_idx))
        preloaded = modules(
            is_tracked=self._config.tracking.name != "none",
            is_drawn=self._config.figures == "all",
            has_digits=self._config.dataset.get("name") == "digits",
        )
        context.set_forkserver_preload(list(preloaded))
        # libraries read the number of threads when they are loaded, before a job begins
        os.environ |= self._threads_each
        returns: dict[int, JobReturn] = {}
        start = time.monotonic()
        if advice := scarce_cpus(self._n_jobs, usable_cores()):
            print(advice)
        try:
            while waiting or len(self._free) < self._n_jobs:
                while waiting and self._free:
                    self._start(*waiting.pop(0))
                returns |= self._wait()
        finally:
            self._stop()
        if advice := self._saved_nothing(sorted(returns), time.monotonic() - start):
            print(advice)
        return [returns[number] for number in sorted(returns)]

    def _saved_nothing(self, numbers: Sequence[int], took_seconds: float) -> str | None:
        from admm_exp.sweep.job import job_path, read_job

        folder = Path(self._config.hydra.sweep.dir)
        jobs = [read_job(job_path(folder, number)) for number in numbers]
        if any(job.status != "finished" for job in jobs):
            return None
        return lost_seconds([job.seconds for job in jobs], took_seconds)

    def _start(self, number: int, overrides: Sequence[str]) -> None:
        from admm_exp.app.worker import started

        slot = self._free.pop(0)
        config = self._hydra_context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        if slot not in self._workers or not self._workers[slot].process.is_alive():
            self._workers[slot] = started(self._environment(slot))
        self._workers[slot].give(self._hydra_context, config, self._task_function, overrides)

    def _environment(self, slot: int) -> dict[str, str]:
        if not self._gpus:
            return {}
        return {"CUDA_VISIBLE_DEVICES": str(self._gpus[slot % len(self._gpus)])}

    def _wait(self) -> dict[int, JobReturn]:
        """Wait until at least one job is over; free its slot."""
        busy = {slot: w for slot, w in self._workers.items() if slot not in self._free}
        ready = connection.wait([worker.calls for worker in busy.values()])
        returns = {}
        for slot, worker in busy.items():
            if worker.calls not in ready:
                continue
            is_well = worker.has_done_well()
            if not is_well:  # a process whose job failed takes no other
                worker.process.join()
                worker.calls.close()
                del self._workers[slot]
            self._free.append(slot)
            returns[worker.number] = self._returned(worker, is_well)
        return returns

    def _returned(self, worker: "Worker", is_well: bool | None) -> JobReturn:
        from admm_exp.sweep.job import end_job, job_path

        overrides, code = list(worker.overrides), worker.process.exitcode
        if is_well is not None:
            status = JobStatus.COMPLETED if is_well else JobStatus.FAILED
            returned = JobReturn(overrides=overrides, status=status)
            returned.return_value = None if is_well else RuntimeError("its file says why")
            return returned
        error = f"its process died with exit code {code}"
        if code == -signal.SIGKILL:
            error = "its process was killed (SIGKILL): out of memory?"
        path = job_path(Path(self._config.hydra.sweep.dir), worker.number)
        end_job(path, "failed", error)
        lost = JobReturn(overrides=overrides, status=JobStatus.FAILED)
        lost.return_value = RuntimeError(error)
        return lost

    def _stop(self) -> None:
        """End all processes: ask those that work, so that runs are marked as killed."""
        for slot, worker in self._workers.items():
            worker.calls.close()
            if slot not in self._free:
                worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join(GRACE_SECONDS)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()


def scarce_cpus(n_jobs: int, cpus: int) -> str | None:
    """Say that jobs at once will not be faster, if there is no CPU for each; None if there is.

    Args:
        n_jobs: Jobs at once.
        cpus: CPUs that this process may use.
    """
    if n_jobs <= cpus:
        return None
    has = "1 CPU is" if cpus == 1 else f"{cpus} CPUs are"
    return f"hydra.launcher.n_jobs={n_jobs}, but {has} free for them: they take turns"


def lost_seconds(job_seconds: Sequence[float], took_seconds: float) -> str | None:
    """Say that processes of their own saved nothing; None if they did.

    Args:
        job_seconds: What each job took, its process' start not counted.
        took_seconds: What all took together.
    """
    alone_seconds = sum(job_seconds)
    if len(job_seconds) < 2 or took_seconds < alone_seconds:
        return None
    return (
        f"hydra/launcher=process saved no time: {len(job_seconds)} jobs took {took_seconds:.0f} s, "
        f"starting their processes included, and worked {alone_seconds:.0f} s in all; such short "
        "jobs are done sooner without it"
    )
