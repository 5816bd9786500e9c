"""What libraries warn of, shown once, however many jobs and processes meet it."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_seen: set[str] = set()


@contextmanager
def shown_once(shared: Path | None = None) -> Iterator[None]:
    """Show each warning once in this process, and once in all processes of a sweep.

    Python forgets what it has shown whenever some library changes its filters for a moment, and
    every process begins anew.

    Args:
        shared: Folder of the sweep's processes, where each warning that was shown leaves an empty
            file; None if there is one process.
    """
    show = warnings.showwarning

    def show_new(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any
    ) -> None:
        name = f"{category.__name__}, {Path(filename).name}, {lineno}, {message}"
        key = f"warned-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        if key in _seen:
            return
        _seen.add(key)
        if shared is None or _is_first(shared / key):
            show(message, category, filename, lineno, *rest)

    replacement: Any = show_new  # Python hands over all six arguments by position
    warnings.showwarning = replacement
    try:
        yield
    finally:
        if warnings.showwarning is replacement:  # else somebody shows them otherwise now
            warnings.showwarning = show


def _is_first(path: Path) -> bool:
    """Leave a file; False if it was there."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # a disk that is full hides no warning
        return True
    return True
