"""A process that runs one job of a sweep after the other, for a launcher that has several."""

import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

START = "forkserver" if sys.platform == "linux" else "spawn"
context: Any = get_context(START)


@dataclass
class Worker:
    """A process and the way to it; what it has planned and exported it need not do again.

    Args:
        process: It ends when the launcher lets go of it, and after a job that failed.
        calls: The launcher's end of the pipe.
        number: Number of the job that it works on, -1 for none.
        overrides: Those that make the job.
    """

    process: BaseProcess
    calls: "connection.Connection"
    number: int = -1
    overrides: Sequence[str] = ()

    def give(
        self,
        hydra_context: HydraContext,
        config: DictConfig,
        task_function: TaskFunction,
        overrides: Sequence[str],
    ) -> None:
        """Have it run a job.

        Args:
            hydra_context: Hydra's.
            config: The job's composed configuration.
            task_function: Runs it.
            overrides: Those that make the job.
        """
        import cloudpickle

        self.number, self.overrides = config.hydra.job.num, overrides
        needed = (hydra_context, config, task_function, Singleton.get_state())
        self.calls.send_bytes(cloudpickle.dumps(needed))

    def has_done_well(self) -> bool | None:
        """Read how its job ended; None if the process ended instead."""
        try:
            return bool(self.calls.recv())
        except (EOFError, OSError):
            return None


def started(environment: Mapping[str, str]) -> Worker:
    """Start a process that waits for jobs.

    Args:
        environment: Variables that it has beside those of the launcher.
    """
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, dict(environment)))
    process.start()
    theirs.close()  # so that the pipe ends when the process does
    return Worker(process, ours)


def _work(calls: "connection.Connection", environment: dict[str, str]) -> None:
    """Run jobs until the launcher has no more, or one fails: it may leave the GPU unusable."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher answers Ctrl-C for all
    os.environ.update(environment)
    Thread(target=_die_with_parent, daemon=True).start()
    is_well = True
    with suppress(EOFError, OSError):  # the launcher has let go
        while is_well:
            is_well = _has_run(calls.recv_bytes())
            _free_gpu()
            calls.send(is_well)


def _has_run(pickled: bytes) -> bool:
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
    return bool(done.status == JobStatus.COMPLETED)


def _free_gpu() -> None:
    """Give back the GPU's memory that a job has left behind: other processes share it."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _die_with_parent() -> None:
    """Ask this process to end when the launcher is gone; nobody else would."""
    parent: Any = parent_process()
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
