"""The folder of a run: whose it is, room in it, and what is taken back if nothing came of it."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from admm_exp.app.wording import explain
from admm_exp.errors import ConfigError, StorageError
from admm_exp.results import (
    CHECKPOINTS,
    ERROR,
    FIGURES,
    JOURNAL,
    LAYERS,
    ONNX,
    PAGE,
    PROGRAM,
    REPORT,
    STRUCTURE,
    WEIGHTS,
)

if TYPE_CHECKING:
    from filelock import BaseFileLock

NO_ROOM = {ENOSPC, EDQUOT}
LOCK = Path(".hydra", "lock")
FINISHED, OR_FORCE = "a finished run", "folder, or overwrite it with force=true"
PATHS = ("layers", "pretrained", "from_run")
RESULT = (REPORT, PAGE, STRUCTURE, WEIGHTS, PROGRAM, ONNX, ERROR)
HALF_WRITTEN = re.compile(
    rf"\.({'|'.join(map(re.escape, (*RESULT, LAYERS)))}|.+\.safetensors)\.\d+"
)
"""What a process leaves that is killed while it writes, as `write_atomically` names it."""

_held: "dict[Path, BaseFileLock]" = {}


class FolderGuard(Callback):
    """Takes the folder of a run before Hydra writes there."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Hold the run's folder, or the next of its name while another process has it.

        Raises:
            SystemExit: If the folder holds a run, unless force=true.
        """
        if config.hydra.output_subdir is None:  # a command that leaves no run behind
            return
        try:
            wanted = Path(os.path.abspath(config.hydra.run.dir))
            folder = _held_at(wanted, may_hold_run=config.get("force") is True)
        except Exception as error:  # Hydra would only warn
            sys.exit(explain(error))
        if folder != wanted:
            with read_write(config), open_dict(config):
                config.hydra.run.dir = str(folder)


def _held_at(wanted: Path, *, may_hold_run: bool) -> Path:
    try:
        return hold(wanted, may_hold_run=may_hold_run)
    except FileNotFoundError as error:  # as below /proc
        raise ConfigError(
            f"hydra.run.dir={wanted} cannot be made ({error.strerror}): choose another folder"
        ) from error


def hold(wanted: Path, *, may_hold_run: bool) -> Path:
    """Keep other processes out of a run's folder until `alone_in` is over.

    Args:
        wanted: The folder, made if missing; if another process has it, one beside it is taken.
        may_hold_run: Take it although it holds a run, which is lost.

    Raises:
        ConfigError: If it holds a run that no process works on.
    """
    folder = wanted
    for number in count(2):
        left = None if may_hold_run else _left_in(folder)
        if left == FINISHED and folder == wanted:
            raise ConfigError(f"hydra.run.dir={wanted} holds {left}: choose another {OR_FORCE}")
        lock = None if left == FINISHED else lock_of(folder / LOCK)
        if lock is not None and left is None:
            _held[folder] = lock
            return folder
        if lock is not None:
            lock.release()
            if folder == wanted:
                raise ConfigError(
                    f"hydra.run.dir={wanted} holds {left}: go on with it by resume={wanted}, "
                    f"choose another {OR_FORCE}"
                )
        folder = wanted.with_name(f"{wanted.name}-{number}")
    raise AssertionError("count() has no end")


def _left_in(folder: Path) -> str | None:
    """Say what an earlier run has left in a folder that a new one would overwrite."""
    if (folder / REPORT).exists():
        return FINISHED
    has_begun = (folder / JOURNAL).exists() or any(folder.glob(f"{CHECKPOINTS}/*"))
    return "an unfinished run" if has_begun else None


@contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; a dead process keeps nobody out.

    Raises:
        ConfigError: If another process works there.
    """
    lock = _held.pop(run_dir, None) or lock_of(run_dir / LOCK)
    if lock is None:
        raise ConfigError(
            f"another process works on {run_dir}: wait for its end, or stop it and try again"
        )
    try:
        yield
    finally:
        lock.release()


def lock_of(path: Path) -> "BaseFileLock | None":
    """Take a lock, whose folder is made if missing; None if another process has it."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


@contextmanager
def room_in(run_dir: Path) -> Iterator[None]:
    """Say how to go on if the disk is full.

    Raises:
        StorageError: If it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StorageError(
            f"the disk of {run_dir} is full: make room and go on with resume={run_dir}"
        ) from error


def require_outside(run_dir: Path, *sources: str | None) -> None:
    """Check that a run starts from nothing that its own result would take the place of.

    Args:
        run_dir: Folder of the run.
        sources: Files or folders that it starts from.

    Raises:
        ConfigError: If one lies in its folder.
    """
    for source in filter(None, sources):
        if Path(os.path.realpath(source)).is_relative_to(os.path.realpath(run_dir)):
            raise ConfigError(
                f"{source} lies in hydra.run.dir={run_dir}, which the run writes to: choose "
                f"another folder for the run"
            )


def remove_result(run_dir: Path) -> None:
    """Remove what an earlier run found: until this one has ended there is no result."""
    for name in RESULT:
        (run_dir / name).unlink(missing_ok=True)
    shutil.rmtree(run_dir / FIGURES, ignore_errors=True)


def remove_half_written(run_dir: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for folder in (run_dir, run_dir / CHECKPOINTS):
        for path in folder.glob(".*"):
            if HALF_WRITTEN.fullmatch(path.name):
                path.unlink(missing_ok=True)


def remove_unused(run_dir: Path) -> None:
    """Take back what Hydra wrote for a run that was refused before it began, and nothing else.

    An empty folder in which the user stands, or that was there before, is not the run's.
    """
    if (run_dir / REPORT).exists() or (run_dir / CHECKPOINTS).exists():  # of an earlier run
        return
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml", "lock"):
        (run_dir / ".hydra" / name).unlink(missing_ok=True)
    here = Path.cwd()
    parents = [folder for folder in run_dir.absolute().parents[:2] if here in folder.parents]
    own = [] if run_dir.absolute() == here else [run_dir, *parents]
    for folder in (run_dir / ".hydra", *own):
        try:
            folder.rmdir()
        except OSError:  # it holds something else
            return


def with_absolute_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Let the paths in settings start at the current folder, wherever the run works later.

    Args:
        settings: Of an experiment, nested plain containers.
    """
    changed = {name: os.path.abspath(settings[name]) for name in PATHS if settings.get(name)}
    dataset = dict(settings["dataset"])
    if isinstance(dataset.get("root"), str):
        dataset["root"] = os.path.abspath(os.path.expanduser(dataset["root"]))
    return dict(settings) | changed | {"dataset": dataset}


def from_here(path: Path) -> Path:
    """Shorten a path below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
