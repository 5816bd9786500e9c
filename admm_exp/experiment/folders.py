"""What lies below a folder that the code of the user's reads, without what runs leave there."""

import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

INSTALLED = frozenset({"site-packages", "dist-packages"})
"""What folders that only installers write to are called, in whatever environment."""
INCIDENTAL = frozenset({".log", ".jsonl", ".out", ".err", ".lock", ".db", ".tmp", ".pyc", ".pyo"})
"""Endings of files that code writes rather than reads."""
LEFT_BY_RUNS = INSTALLED | {"__pycache__", "node_modules", "outputs", "multirun", "mlruns", "wandb"}
"""Folders that programs fill; so are those whose name begins with a dot."""
MARKS = frozenset({"pyvenv.cfg", "conda-meta", ".hydra", "CACHEDIR.TAG"})
"""What lies in a virtual environment, in the folder of a run and in a cache."""
MOST_ENTRIES = 20_000
"""Files and folders that are looked at below one folder, those nearest to it first."""


class Found(NamedTuple):
    """What lies below a folder.

    Args:
        files: Size in bytes and time of change of every file, by its path; nearest first.
        is_whole: Whether all of it was looked at.
    """

    files: dict[Path, tuple[int, int]]
    is_whole: bool


def files_below(folder: Path) -> Found:
    """List the files below a folder that somebody wrote or put there.

    Args:
        folder: Where to begin; links to folders are followed, each folder once.
    """
    files: dict[Path, tuple[int, int]] = {}
    seen, left = set[tuple[int, int]](), MOST_ENTRIES
    waiting = deque([folder])
    while waiting:
        place = waiting.popleft()
        entries = _entries_of(place, left + 1)
        if len(entries) > left:
            with suppress(OSError):  # at least what is added to it and removed counts
                files[place] = (0, place.stat().st_mtime_ns)
            return Found(files, is_whole=False)
        left -= len(entries)
        if place != folder and not MARKS.isdisjoint(entries):
            continue
        for name, status in sorted(entries.items()):
            if not stat.S_ISDIR(status.st_mode):
                if stat.S_ISREG(status.st_mode) and Path(name).suffix not in INCIDENTAL:
                    files[place / name] = (status.st_size, status.st_mtime_ns)
            elif not is_left_by_runs(name) and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                waiting.append(place / name)
    return Found(files, is_whole=True)


def is_left_by_runs(folder: str) -> bool:
    """Tell by the name of a folder whether programs fill it."""
    return folder in LEFT_BY_RUNS or folder.startswith(".")


def _entries_of(place: Path, most: int) -> dict[str, os.stat_result]:
    """Look at what lies in a folder; nothing if it cannot be read."""
    try:
        with os.scandir(place) as entries:
            return dict(_seen(islice(entries, most)))
    except OSError:
        return {}


def _seen(entries: Iterator[os.DirEntry[str]]) -> Iterator[tuple[str, os.stat_result]]:
    for entry in entries:
        try:
            yield entry.name, entry.stat()
        except OSError:  # a link that leads nowhere
            continue
