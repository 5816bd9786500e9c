"""Several jobs at once on one machine, a process each; a job that dies costs itself alone."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

__all__ = ["ProcessLauncher"]

GRACE_SECONDS = 10.0
START = "forkserver" if sys.platform == "linux" else "spawn"


class ProcessLauncher(Launcher):
    """Run each job in a process of its own, so many at a time.

    Args:
        n_jobs: Jobs at once.
        gpus: GPU of each slot in turn; None leaves all GPUs to all jobs.
        threads: CPU threads of each job.
    """

    def __init__(self, n_jobs: int, gpus: Sequence[int | str] | None, threads: int) -> None:
        self._gpus = gpus
        self._threads_each = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._context: Any = get_context(START)
        self._free = list(range(n_jobs))
        self._running: dict[int, _Running] = {}

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

        waiting = list(enumerate(job_overrides, start=initial_job_idx))
        self._context.set_forkserver_preload(list(modules(self._config.tracking.name != "none")))
        # libraries read the number of threads when they are loaded, before a job begins
        os.environ |= self._threads_each
        returns: dict[int, JobReturn] = {}
        start = time.monotonic()
        if advice := scarce_cpus(len(self._free), _cpus()):
            print(advice)
        try:
            while waiting or self._running:
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
        import cloudpickle

        slot = self._free.pop(0)
        config = self._hydra_context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        needed = (self._hydra_context, config, self._task_function, Singleton.get_state())
        process = self._context.Process(
            target=_run, args=(cloudpickle.dumps(needed), self._environment(slot))
        )
        process.start()
        self._running[number] = _Running(process, slot, list(overrides))

    def _environment(self, slot: int) -> dict[str, str]:
        if not self._gpus:
            return {}
        return {"CUDA_VISIBLE_DEVICES": str(self._gpus[slot % len(self._gpus)])}

    def _wait(self) -> dict[int, JobReturn]:
        """Wait until at least one job is over; free its slot."""
        connection.wait([job.process.sentinel for job in self._running.values()])
        over = [number for number, job in self._running.items() if not job.process.is_alive()]
        returns = {}
        for number in over:
            job = self._running.pop(number)
            job.process.join()
            self._free.append(job.slot)
            returns[number] = self._returned(number, job)
        return returns

    def _returned(self, number: int, job: "_Running") -> JobReturn:
        from admm_exp.sweep.job import end_job, job_path

        code = job.process.exitcode
        if code == 0:
            return JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
        error = f"its process died with exit code {code}"
        if code == -signal.SIGKILL:
            error = "its process was killed (SIGKILL): out of memory?"
        end_job(job_path(Path(self._config.hydra.sweep.dir), number), "failed", error)
        lost = JobReturn(overrides=job.overrides, status=JobStatus.FAILED)
        lost.return_value = RuntimeError(error)
        return lost

    def _stop(self) -> None:
        """End what still runs: ask first, so that runs are marked as killed."""
        left = [job.process for job in self._running.values()]
        for process in left:
            process.terminate()
        for process in left:
            process.join(GRACE_SECONDS)
            process.kill()
            process.join()
        self._running.clear()


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


def _cpus() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


@dataclass(frozen=True)
class _Running:
    process: BaseProcess
    slot: int
    overrides: list[str]


def _run(pickled: bytes, environment: dict[str, str]) -> None:
    """Run one job, in its own process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher answers Ctrl-C for all
    os.environ.update(environment)
    Thread(target=_die_with_parent, daemon=True).start()
    import cloudpickle

    hydra_context, config, task_function, state = cloudpickle.loads(pickled)
    setup_globals()
    Singleton.set_state(state)
    try:
        done = run_job(
            hydra_context=hydra_context,
            task_function=task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
    sys.exit(0 if done.status == JobStatus.COMPLETED else 1)


def _die_with_parent() -> None:
    """Ask this process to end when the launcher is gone; nobody else would."""
    parent: Any = parent_process()
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
