"""The folder of a run: room in it, and what is taken back if nothing came of the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from admm_exp.errors import StorageError

NO_ROOM = {ENOSPC, EDQUOT}


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


def remove_unused(run_dir: Path) -> None:
    """Take back what Hydra wrote for a run that was refused before it began, and nothing else."""
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml", "lock"):
        (run_dir / ".hydra" / name).unlink(missing_ok=True)
    for folder in (run_dir / ".hydra", run_dir, run_dir.parent, run_dir.parent.parent):
        try:
            folder.rmdir()
        except OSError:  # it holds something else
            return
