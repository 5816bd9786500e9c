"""Jobs of a sweep on Slurm, an array task each, watched without Slurm's accounting."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["SlurmLauncher"]

# What submitit's own names are; everything else belongs to Slurm.
COMMON = {
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"),
    *("name", "stderr_to_stdout"),
}


class SlurmLauncher(Launcher):
    """Submit the jobs as one array and wait until all are over.

    What an earlier command of this sweep that died has left on Slurm is not submitted again.

    Args:
        gpus_per_node: GPUs of each job; auto asks for one where the partition has GPUs.
        max_num_timeout: How often a job that reaches its time limit is started again.
        poll_seconds: Time between two looks at the queue.
        gone_seconds: A job that has left the queue for so long without a result is over.
        params: What submitit hands to sbatch.
    """

    def __init__(
        self,
        gpus_per_node: int | str | None,
        max_num_timeout: int,
        poll_seconds: float,
        gone_seconds: float,
        **params: Any,
    ) -> None:
        self._params = {"gpus_per_node": gpus_per_node} | params
        self._max_num_timeout = max_num_timeout
        self._poll_seconds, self._gone_seconds = poll_seconds, gone_seconds

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives every launcher."""
        self._hydra_context, self._task_function = hydra_context, task_function
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return when all are over.

        Raises:
            ConfigError: If Slurm does not take them.
        """
        from admm_exp.app import slurm_queue
        from admm_exp.sweep.job import OVER_WELL, job_path, read_job, write_job

        sweep_dir = Path(self._config.hydra.sweep.dir).absolute()
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        paths = {job_path(sweep_dir, number): number for number in numbers}
        overrides = dict(zip(paths, map(list, job_overrides), strict=True))
        left = {} if self._config.force else slurm_queue.left_behind(list(paths), sweep_dir)
        if left:
            print(f"left on Slurm by an earlier command, and going on: {len(left)} of {len(paths)}")
        new = [path for path in paths if path not in left]
        folder = sweep_dir / slurm_queue.FOLDER / str(initial_job_idx)
        ids = self._submit([overrides[p] for p in new], [paths[p] for p in new], folder)
        followed = dict(zip(ids, new, strict=True))
        for path, found in left.items():
            followed[found.key] = _linked(path, found.path)
        try:
            _wait(followed, self._poll_seconds, self._gone_seconds)
        except BaseException:
            slurm_queue.ask("scancel", *followed)
            raise
        finally:
            for path in left:  # in place of the link
                write_job(path, read_job(path))
        jobs = {path: read_job(path) for path in paths}
        if all(job.status in OVER_WELL for job in jobs.values()):
            slurm_queue.clean(folder, ids, self._poll_seconds, self._gone_seconds)
            slurm_queue.clean_left(list(left.values()), self._poll_seconds, self._gone_seconds)
        return [_returned(overrides[path], job.error) for path, job in jobs.items()]

    def _submit(
        self, overrides: Sequence[list[str]], numbers: Sequence[int], folder: Path
    ) -> list[str]:
        from admm_exp.app.cluster_job import ClusterJob
        from admm_exp.errors import ConfigError

        if not numbers:
            return []
        try:
            import submitit
        except ImportError:
            raise ConfigError(
                "hydra/launcher=slurm needs submitit: pip install 'admm-exp[slurm]'"
            ) from None
        if shutil.which("sbatch") is None or shutil.which("squeue") is None:
            raise ConfigError(
                "hydra/launcher=slurm needs Slurm's sbatch and squeue on this machine, and they "
                "are not there: start the sweep on a login node, or use hydra/launcher=process"
            )
        params = self._params | {"gpus_per_node": self._gpus()}
        named = {key if key in COMMON else f"slurm_{key}": v for key, v in params.items()}
        job = ClusterJob(self._hydra_context, self._config, self._task_function)
        try:
            executor = submitit.AutoExecutor(
                folder / "%j", cluster="slurm", slurm_max_num_timeout=self._max_num_timeout
            )
            executor.update_parameters(**named)
            return [str(each.job_id) for each in executor.map_array(job, overrides, numbers)]
        except (submitit.core.utils.FailedJobError, NameError, TypeError, ValueError) as error:
            asked = {key: v for key, v in params.items() if v is not None and v != {}}
            shown = ", ".join(f"{key}={value}" for key, value in asked.items())
            raise ConfigError(
                f"Slurm does not take the jobs ({_reason(error)}): correct hydra.launcher's {shown}"
            ) from None

    def _gpus(self) -> int | None:
        """Choose how many GPUs a job asks for.

        Raises:
            ConfigError: If the partition has none.
        """
        from admm_exp.app import slurm_queue
        from admm_exp.errors import ConfigError

        wanted, partition = self._params["gpus_per_node"], self._params.get("partition")
        words = ["-p", str(partition)] if partition else []
        resources = slurm_queue.ask("sinfo", "-h", "-o", "%G", *words)
        if resources is None or not resources.split():  # sbatch will say what is wrong
            return None if wanted == "auto" else wanted
        has_gpus = "gpu" in resources
        if wanted == "auto":
            return 1 if has_gpus else None
        if wanted and not has_gpus:
            raise ConfigError(
                f"hydra.launcher.gpus_per_node={wanted}, but partition {partition or 'by default'} "
                "has no GPUs: set it to null, or hydra.launcher.partition to one that has"
            )
        return wanted or None


def _linked(path: Path, target: Path) -> Path:
    """Let a job's file be another one, at once for whoever reads it."""
    link = path.with_suffix(".link")
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    return link.replace(path)


def _wait(paths: Mapping[str, Path], poll_seconds: float, gone_seconds: float) -> None:
    """Wait until every job is over; one that left the queue without a word has ended badly.

    A requeued job stays in the queue, and its file says that it is not over. One that Slurm holds
    there would be waited for in silence, so that is told once.

    Args:
        paths: The jobs' files by Slurm's id.
        poll_seconds: Time between two looks.
        gone_seconds: How long a file may stay behind, as on a network drive.
    """
    from admm_exp.app import slurm_queue
    from admm_exp.sweep.job import end_job, read_job

    left, since = dict(paths), dict.fromkeys(paths, float("inf"))
    told: set[str] = set()
    while left := {key: path for key, path in left.items() if not read_job(path).is_over}:
        queued = slurm_queue.queued(left)
        now = time.monotonic()
        for key, reason in (queued or {}).items():
            if key in left and key not in told and "held" in reason.lower():
                told.add(key)
                print(f"Slurm holds job {key} ({reason}): scontrol release {key} lets it go on")
        for key, path in left.items():
            since[key] = min(since[key], now) if queued is not None and key not in queued else now
            if now - since[key] >= gone_seconds:
                end_job(path, *_fate(read_job(path).status, path.resolve().parent.parent, key))
        time.sleep(poll_seconds)


def _fate(status: str, sweep_dir: Path, key: str) -> tuple[Any, str]:
    """Say what became of a job that has left the queue without a result."""
    from admm_exp.app.slurm_queue import FOLDER

    if status == "interrupted":
        return "killed", f"its Slurm job {key} was cancelled or stopped, and not started again"
    if status == "running":
        return "failed", f"its Slurm job {key} died: killed, out of memory, or its node is down"
    paths = sorted(sweep_dir.glob(f"{FOLDER}/*/{key}/*_log.err"))
    words = [path.read_text(errors="replace") for path in paths]
    lines = "".join(words).strip().splitlines()
    said = f" ({lines[-1][:300]})" if lines else ""
    return "failed", f"its Slurm job {key} was cancelled or ended before it began{said}"


def _returned(overrides: Sequence[str], error: str | None) -> JobReturn:
    status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
    returned = JobReturn(overrides=list(overrides), status=status)
    returned.return_value = None if error is None else RuntimeError(error)
    return returned


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("sbatch: error:")] or lines[-1:]
    return said[-1].removeprefix("sbatch: error: ").rstrip(".") if said else type(error).__name__
