"""The folder of a sweep: held while it goes on, and no job in it is overwritten."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict

from admm_exp.app.command_line import quoted_value
from admm_exp.app.run_folder import lock_of
from admm_exp.sweep.job import job_path

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = "lock"
_held: "list[BaseFileLock]" = []


def claim_folder(master: DictConfig) -> Path:
    """Make the sweep's folder and hold it, under another name if another sweep has it.

    Args:
        master: Configuration of the sweep; names the folder afterwards.
    """
    wanted = Path(master.hydra.sweep.dir).absolute()
    is_fixed = any(o.startswith("hydra.sweep.dir=") for o in master.hydra.overrides.hydra)
    folder, count = wanted, 1
    while (folder.exists() and not is_fixed) or not _is_held(folder):
        count += 1
        folder = wanted.with_name(f"{wanted.name}-{count}")
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
