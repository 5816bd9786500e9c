"""The folder of a sweep: held while it goes on, and no job in it is overwritten."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict

from admm_exp.app.command_line import quoted_value
from admm_exp.app.run_folder import lock_of
from admm_exp.errors import TrackingError
from admm_exp.results import FIGURES, JOURNAL
from admm_exp.sweep.job import job_path
from admm_exp.tracking.journal import read_entries, recorded_run

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = "lock"
SUMMARY = ("sweep.md", "sweep.json", "sweep.csv", "multirun.yaml", FIGURES, JOURNAL)
_held: "list[BaseFileLock]" = []


def claim_folder(master: DictConfig) -> Path:
    """Make the sweep's folder and hold it, under another name if another sweep has it.

    Args:
        master: Configuration of the sweep; names the folder afterwards.
    """
    wanted = Path(master.hydra.sweep.dir).absolute()
    is_fixed = any(o.startswith("hydra.sweep.dir=") for o in master.hydra.overrides.hydra)
    folder, number = wanted, 1
    while (folder.exists() and not is_fixed) or not _is_held(folder):
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    with open_dict(master):
        master.hydra.sweep.dir = str(folder)
        master.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted_value(str(folder))}")
    return folder


def _is_held(folder: Path) -> bool:
    """Hold a sweep's folder as long as this process lives; False if another one holds it."""
    lock = lock_of(job_path(folder, 0).with_name(LOCK))
    if lock is None:
        return False
    _held.append(lock)
    return True


def is_in_use(folder: Path) -> bool:
    """Tell whether a sweep goes on in a folder."""
    lock = lock_of(job_path(folder, 0).with_name(LOCK))
    if lock is not None:
        lock.release()
    return lock is None


def set_aside(folder: Path, run_id: str | None) -> None:
    """Move what an earlier sweep of another parent run has summed up in a folder into one in it.

    Args:
        folder: Of the sweep.
        run_id: MLflow run that the sweep goes on under; None if it is a new one.
    """
    try:
        origin = recorded_run(read_entries(folder / JOURNAL))
    except TrackingError:
        origin = None
    if run_id is not None and origin is not None and origin.run_id == run_id:
        return
    left = [folder / name for name in SUMMARY if (folder / name).exists()]
    if not left:
        return
    place = next(p for n in count(1) if not (p := folder / f"earlier-{n}").exists())
    place.mkdir()
    for path in left:
        path.rename(place / path.name)


def next_number(folder: Path) -> int:
    """Number the first job of a sweep behind all that its folder holds, so that none is lost."""
    names = [path.stem for path in (*job_path(folder, 0).parent.glob("*.json"), *folder.iterdir())]
    return max((int(name) + 1 for name in names if name.isascii() and name.isdigit()), default=0)


def give_back(folder: Path) -> None:
    """Remove the folder of a sweep that did not begin, unless it holds an earlier one."""
    lock = job_path(folder, 0).with_name(LOCK)
    lock.unlink(missing_ok=True)
    for made in (lock.parent, folder):
        with suppress(OSError):
            made.rmdir()
