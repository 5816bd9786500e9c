"""Where data is looked for, as a user writes it."""

from pathlib import Path

from admm_exp.data.decoding import printable
from admm_exp.errors import DataError

OTHER = "set dataset.root to another folder"


def place_of(root: str) -> Path:
    """Return a folder, with ~ as the home that it stands for.

    Raises:
        DataError: If it is the home of nobody.
    """
    try:
        return Path(root).expanduser()
    except RuntimeError as error:
        raise DataError(f"dataset.root={printable(root)} is the home of nobody: {OTHER}") from error


def is_file(path: Path) -> bool:
    """Tell whether a file is there; a folder that cannot be looked into is no folder without it.

    Raises:
        DataError: If it cannot be said.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise DataError(
            f"{printable(path.parent)} cannot be looked into ({error.strerror}): {OTHER}"
        ) from error
