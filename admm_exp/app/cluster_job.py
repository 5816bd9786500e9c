"""One job of a sweep in a process of a cluster, which may stop it and start it again."""

import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

# Lets a process that unpickles a job find the sweeper and the launchers that the job names.
import admm_exp.app.main  # noqa: F401
from admm_exp.sweep.job import MAY_COME_BACK
from admm_exp.tracking.run_status import Terminated

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

Handler = Callable[[int, FrameType | None], Any]


class ClusterJob:
    """Runs any job of a sweep, by its number.

    Where an earlier process of the same job has left a checkpoint, the job goes on from there.

    Args:
        hydra_context: Hydra's.
        config: Configuration of the whole sweep.
        task_function: Runs a composed configuration.
    """

    def __init__(
        self, hydra_context: HydraContext, config: DictConfig, task_function: TaskFunction
    ) -> None:
        self._hydra_context, self._config = hydra_context, config
        self._task_function, self._start = task_function, os.getcwd()
        self._state = Singleton.get_state()

    def __call__(self, overrides: Sequence[str], number: int) -> bool:
        """Run a job.

        Args:
            overrides: Those that make it.
            number: Its number in the sweep.

        Returns:
            Whether it has a result; what it ended with stands in its file.
        """
        os.chdir(self._start)  # composing takes a job's paths to start where the process is
        os.environ[MAY_COME_BACK] = "1"
        _stop_in_order()
        Singleton.set_state(self._state)
        setup_globals()
        loader = self._hydra_context.config_loader
        config = loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = os.environ.get(
                "SLURM_JOB_ID", f"{config.hydra.job.name}_{number}"
            )
            config.hydra.job.num = number
        done = run_job(
            hydra_context=self._hydra_context,
            task_function=self._task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return bool(done.status == JobStatus.COMPLETED)

    def checkpoint(self, overrides: Sequence[str], number: int) -> "DelayedSubmission":
        """Say what submitit starts in place of a job that Slurm stops: the same job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, overrides, number)


def run_cluster_job(job: ClusterJob, overrides: Sequence[str], number: int) -> bool:
    """Run a job as a plain function, which is what Ray starts."""
    return job(overrides, number)


def _stop_in_order() -> None:
    """Let the signals by which submitit has a job requeued end it as SIGTERM does.

    Submitit's handler requeues the job and exits. Slurm's SIGTERM follows at once and must not cut
    off what the run still tells its tracker.
    """
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, _ending(handler))


def _ending(handler: Handler) -> Handler:
    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            handler(number, frame)
        except SystemExit as end:
            raise Terminated(f"signal {number}") from end

    return stop
