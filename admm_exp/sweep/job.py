"""A sweep's jobs, each in a file that the sweep writes first and the job's process goes on with.

The file is the one channel between them that works under every launcher.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from admm_exp.errors import CheckpointError, StoppedError
from admm_exp.results import History, IterationRecord, read_json, write_atomically

Status = Literal[
    "waiting", "running", "interrupted", "finished", "reused", "stopped", "failed", "killed"
]
OVER_WELL: tuple[Status, ...] = ("finished", "reused", "stopped")
FOLDER = ".jobs"
# Set in the processes of a cluster, which may stop a job and start it again.
MAY_COME_BACK = "ADMM_EXP_MAY_COME_BACK"


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Args:
        name: The swept settings, `rho=...,sparsity=...`.
        config_hash: Names the runs that must have the same result.
        parent_run_id: MLflow run of the sweep.
        status: How far it is.
        run_dir: Folder of its run, once it has begun.
        started: Seconds since the epoch.
        seconds: How long it took.
        error: One sentence, if it failed.
        limits: Dead energy, iteration by iteration, above which the job is hopeless and stops.
        warnings: What its user should know now.
    """

    name: str
    config_hash: str
    parent_run_id: str | None = None
    status: Status = "waiting"
    run_dir: str | None = None
    started: float = 0.0
    seconds: float = 0.0
    error: str | None = None
    limits: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Say whether nothing more will happen to it."""
        return self.status not in ("waiting", "running", "interrupted")

    def goes_on_in(self, run_dir: Path) -> bool:
        """Say whether a process of this very job has worked in a folder and did not fail there.

        A sweep writes its jobs' files anew when it starts: what an earlier one left in the folder
        is not this job's.
        """
        return self.run_dir == str(run_dir) and self.status not in ("waiting", "failed", "stopped")


def job_path(sweep_dir: Path, number: int) -> Path:
    """Return where job `number` of a sweep has its file."""
    return sweep_dir / FOLDER / f"{number}.json"


def write_job(path: Path, job: Job) -> None:
    """Write a job's file atomically."""
    write_atomically(path, json.dumps(asdict(job)).encode())


def read_job(path: Path) -> Job:
    """Read a job's file.

    Raises:
        FileNotFoundError: If there is none.
        CheckpointError: If it is damaged.
    """
    try:
        kept = read_json(path)
        job = Job(**kept | {name: tuple(kept.get(name, ())) for name in ("limits", "warnings")})
        _require_job(job)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): delete it, or run the sweep again in another folder"
        ) from error
    return job


def _require_job(job: Job) -> None:
    kinds: dict[str, Any] = {
        "name": str,
        "config_hash": str,
        "parent_run_id": str | None,
        "run_dir": str | None,
        "started": int | float,
        "seconds": int | float,
        "error": str | None,
    }
    for name, kind in kinds.items():
        if not isinstance(getattr(job, name), kind):
            raise ValueError(f"{name} cannot be {getattr(job, name)!r}")
    if job.status not in get_args(Status):
        raise ValueError(f"status cannot be {job.status!r}")
    if not all(isinstance(limit, int | float) for limit in job.limits):
        raise ValueError(f"limits cannot be {job.limits}")
    if not all(isinstance(warning, str) for warning in job.warnings):
        raise ValueError(f"warnings cannot be {job.warnings}")


def find_job(run_dir: Path) -> Path | None:
    """Find the file of the job that has a folder; None if the folder is of no sweep.

    Args:
        run_dir: Folder of a run.
    """
    wanted = str(run_dir.absolute())
    paths = (run_dir.absolute().parent / FOLDER).glob("*.json")
    return next((path for path in paths if read_job(path).run_dir == wanted), None)


def begin_job(path: Path, run_dir: Path) -> None:
    """Note that a job's process has begun, for the first time or again."""
    job = read_job(path)
    fresh = Job(job.name, job.config_hash, job.parent_run_id, limits=job.limits)
    if job.goes_on_in(run_dir):
        fresh = replace(fresh, seconds=job.seconds, warnings=job.warnings)
    write_job(path, replace(fresh, status="running", run_dir=str(run_dir), started=time.time()))


def interrupt_job(path: Path) -> None:
    """Note that a job was stopped from outside and may be started again by who stopped it."""
    job = read_job(path)
    if job.status == "running":
        write_job(path, replace(job, status="interrupted", seconds=_worked(job)))


def warn_job(path: Path, message: str) -> None:
    """Note what the user of a job should know now.

    Args:
        path: The job's file.
        message: One sentence.
    """
    job = read_job(path)
    write_job(path, replace(job, warnings=(*job.warnings, message)))


def end_job(path: Path, status: Status, error: str | None = None) -> None:
    """Note how a job ended, unless that is known already.

    Args:
        path: The job's file.
        status: How it ended.
        error: One sentence, if it failed.
    """
    job = read_job(path)
    if not job.is_over:
        write_job(path, replace(job, status=status, seconds=_worked(job), error=error))


def _worked(job: Job) -> float:
    """Return the seconds that all processes of a job have worked on it."""
    is_running = job.status == "running" and job.started
    return job.seconds + (time.time() - job.started if is_running else 0.0)


class JobObserver(History):
    """Watch one job.

    Args:
        path: The job's file; its limits, one an ADMM iteration, are kept to, none never ends a run.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._limits = read_job(path).limits

    def iteration_finished(self, record: IterationRecord) -> None:
        """Judge an iteration.

        Raises:
            StoppedError: The run is hopeless.
        """
        super().iteration_finished(record)
        if record.iteration > len(self._limits):
            return
        limit = self._limits[record.iteration - 1]
        if record.dead_energy > limit:
            raise StoppedError(
                f"hopeless: iteration {record.iteration} would cut {record.dead_energy:.1%} of the "
                f"energy, other trials allow {limit:.1%}"
            )

    def warned(self, message: str) -> None:
        """Let the sweep know."""
        super().warned(message)
        warn_job(self._path, message)
