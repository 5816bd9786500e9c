"""What Slurm holds of a sweep: its queue, what a command that died has left there, traces."""

import getpass
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from admm_exp.app.sweep_folder import is_in_use
from admm_exp.sweep.job import OVER_WELL, job_path, read_job

FOLDER = ".submitit"
COMMAND_SECONDS = 60.0


@dataclass(frozen=True)
class Left:
    """A job that an earlier command has left on Slurm.

    Args:
        key: Slurm's id.
        path: Its file, in the folder of that command.
        folder: Where submitit keeps it.
    """

    key: str
    path: Path
    folder: Path


def ask(*command: str) -> str | None:
    """Run one of Slurm's commands; None if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def queued(ids: Mapping[str, Path]) -> dict[str, str] | None:
    """List the jobs in Slurm's queue with what they wait for, by one question for all.

    Returns:
        Reason by id; None if Slurm does not answer.
    """
    arrays = sorted({key.partition("_")[0] for key in ids})
    found = ask("squeue", "-h", "-r", "-o", "%F %K %i %r", "-j", ",".join(arrays))
    if found is None:
        # of a job that is long over it says that the id is invalid, which is an answer
        return {} if ask("squeue", "-h", "-o", "%i") is not None else None
    lines = [line.split(maxsplit=3) for line in found.splitlines()]
    return {name: line[-1] for line in lines for name in (line[2], "_".join(line[:2]))}


def left_behind(paths: Sequence[Path], sweep_dir: Path) -> dict[Path, Left]:
    """Find on Slurm what an earlier command of these jobs has left there when it died.

    Slurm says which script a job runs, and with it the folder of its sweep.

    Args:
        paths: Files of the jobs that are to run.
        sweep_dir: Folder of their sweep.
    """
    wanted = {(job.config_hash, job.parent_run_id): p for p in paths for job in (read_job(p),)}
    said = ask("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%F %K %o")
    found: dict[Path, Left] = {}
    in_use = {str(sweep_dir): False}
    lines = [line.split(maxsplit=2) for line in (said or "").splitlines()]
    for array, task, script in (line for line in lines if len(line) == 3):
        folder = Path(script).parent  # SWEEP/.submitit/NUMBER OF THE FIRST JOB
        if folder.parent.name != FOLDER or not (task + folder.name).isdecimal():
            continue
        sweep = folder.parent.parent
        old = job_path(sweep, int(folder.name) + int(task))
        job = read_job(old) if old.is_file() else None
        path = wanted.get((job.config_hash, job.parent_run_id)) if job and not job.is_over else None
        if path is None or path == old:
            continue
        if str(sweep) not in in_use:
            in_use[str(sweep)] = is_in_use(sweep)
        if not in_use[str(sweep)]:
            found[path] = Left(f"{array}_{task}", old, folder)
    return found


def clean(folder: Path, ids: Sequence[str], poll_seconds: float, patience_seconds: float) -> None:
    """Remove what submitit wrote, once Slurm has let go of it."""
    deadline = time.monotonic() + patience_seconds
    waiting = dict.fromkeys(ids, folder)
    while set(queued(waiting) or ()) & set(ids) and time.monotonic() < deadline:
        time.sleep(min(1.0, poll_seconds))
    for name in {*ids, *(key.partition("_")[0] for key in ids)}:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.rglob("*"):
        path.unlink(missing_ok=True) if path.suffix in (".sh", ".pkl") else None
    for path in (*folder.glob("*"), folder, folder.parent):
        try:
            path.rmdir()
        except OSError:  # another batch of jobs is at work there
            continue


def clean_left(left: Sequence[Left], poll_seconds: float, patience_seconds: float) -> None:
    """Remove what submitit wrote for an earlier command, all of whose jobs ended well."""
    for folder in {each.folder for each in left}:
        ours = [each for each in left if each.folder == folder]
        beside = ours[0].path.parent.glob("*.json")
        if all(read_job(path).status in OVER_WELL for path in beside):
            clean(folder, [each.key for each in ours], poll_seconds, patience_seconds)
