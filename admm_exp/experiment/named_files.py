"""The files that the code of the user's names by texts, or finds by listing folders."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath

from admm_exp.experiment.folders import (
    INCIDENTAL,
    MOST_ENTRIES,
    Found,
    files_below,
    is_left_by_runs,
)

MOST_BYTES = 2**24
"""Of a file that counts by its content; a larger one counts by its size and time of change."""
MANY = 200
"""Files that one pattern or folder means; of more each counts by its size and time."""
MOST_BYTES_OF_FOLDER = 2**26
"""Of a folder whose files count by their content."""
NO_FILE = (OSError, ValueError, RuntimeError)
ENDING = re.compile(r"(\.[a-z]\w{0,9})+", re.IGNORECASE)

logger = logging.getLogger(__name__)


@dataclass
class Walk:
    """A folder below which modules lie that no text names.

    Args:
        lists: Whether folders are listed, so that files of data count too.
        texts: Of the sources that do; they may name folders and endings.
    """

    lists: bool = False
    texts: dict[str, None] = field(default_factory=dict)


class NamedFiles:
    """Texts that may name files, the folders to look in, and the files found.

    Args:
        hash_of: Reads a file that counts by its content, and notes what it names in turn.
    """

    def __init__(self, hash_of: Callable[[Path], str]) -> None:
        self._named: dict[str, str] = {}
        self._below: dict[str, str] = {}
        self.texts: dict[str, None] = {}
        self.places: dict[Path, None] = {Path.cwd(): None}
        self.written: set[str] = set()
        self.modules: set[Path] = set()
        self._hash_of = hash_of
        self._hashes: dict[Path, str] = {}
        self._listings: dict[Path, dict[str, None]] = {}
        self._folders: dict[str, dict[Path, None]] = {}
        self._listed: dict[Path, Found] = {}

    def files(self) -> dict[str, str]:
        """Return the hash of all that was found, by the text that names it or by its path."""
        both = {
            name: _digest(self._named[name] + value)
            for name, value in self._below.items()
            if name in self._named and self._named[name] != value
        }
        return self._named | self._below | both

    def count(self) -> int:
        """Return how much is known, which tells whether something new has turned up."""
        return (
            len(self._named)
            + len(self._below)
            + len(self.texts)
            + len(self.places)
            + len(self._hashes)
        )

    def look_up(self) -> None:
        """Find the files that the texts mean, in all places; a folder is one more place."""
        by_first: dict[str, list[str]] = {}
        for text in self.texts:
            if "\n" not in text and "**" not in text and text.strip(" ./*"):
                by_first.setdefault(_first_of(text), []).append(text)
        found: dict[str, dict[Path, None]] = {}
        for place in list(self.places):
            for text in _that_may_lie_in(self._listing_of(place), by_first):
                found.setdefault(text, {}).update(dict.fromkeys(_paths_of(text, place)))
        for text in by_first.get("", ()):
            found.setdefault(text, {}).update(dict.fromkeys(_paths_of(text, Path.cwd())))
        for text, paths in found.items():
            self._keep(text, paths)

    def count_below(self, folder: Path, walk: Walk) -> None:
        """Count what may be loaded from a folder, and from those that its code names.

        Args:
            folder: That of a package or a module.
            walk: What its code looks for.
        """
        folders = [
            found for text in walk.texts for found in self._folders.get(text, ()) if found != folder
        ]
        patterns = [text for text in walk.texts if _is_pattern(text)]
        endings = {".py", *(PurePath(f"x{text}").suffix for text in patterns)} - {""}
        is_all = walk.lists and not folders and len(endings) == 1
        self._count_files(folder, None if is_all else endings)
        for named in folders:
            if is_left_by_runs(named.name):
                say_once(
                    f"code of yours reads {named}, which runs write: an edit there does not count"
                )
            else:
                self._count_files(named, None)

    def _count_files(self, folder: Path, endings: Iterable[str] | None) -> None:
        below = self._listed[folder] = self._listed.get(folder) or files_below(folder)
        if not below.is_whole:
            say_once(
                f"{folder} holds more than {MOST_ENTRIES} files and folders, and code of yours "
                "looks for what it uses in it: an edit of those deepest in it is not noticed"
            )
        written = {PurePath(text).name for text in self.written}
        paths = {
            path: status
            for path, status in below.files.items()
            if (endings is None or path.suffix in endings)
            and path.name not in written
            and path not in self.modules
        }
        if len(paths) > MANY or sum(size for size, _ in paths.values()) > MOST_BYTES_OF_FOLDER:
            lines = [f"{path.relative_to(folder)} {status}" for path, status in paths.items()]
            self._below[f"{_name_of(folder)}/**"] = _digest("\n".join(sorted(lines)))
            return
        for path in paths:
            with suppress(*NO_FILE):
                self._below[_name_of(path)] = self._hash(path, is_one_of_many=False)

    def _keep(self, text: str, paths: Iterable[Path]) -> None:
        found, is_pattern = {}, _is_pattern(text)
        paths = list(paths)
        for path in paths:
            try:
                if path.is_dir():
                    self.places[path] = None
                    self._folders.setdefault(text, {})[path] = None
                elif path.is_file() and _is_read(path, is_pattern=is_pattern):
                    found[str(path)] = self._hash(path, is_one_of_many=len(paths) > MANY)
            except NO_FILE:
                continue
        if found:
            hashes = [found[path] for path in sorted(found)]
            self._named[text] = hashes[0] if len(hashes) == 1 else _digest("".join(hashes))

    def _hash(self, path: Path, *, is_one_of_many: bool) -> str:
        if path not in self._hashes:
            status = path.stat()
            is_large = is_one_of_many or status.st_size > MOST_BYTES or path.is_dir()
            size_and_time = f"{status.st_size} bytes of {status.st_mtime_ns}"
            self._hashes[path] = size_and_time if is_large else self._hash_of(path)
        return self._hashes[path]

    def _listing_of(self, place: Path) -> dict[str, None]:
        if place not in self._listings:
            try:
                self._listings[place] = dict.fromkeys(os.listdir(place))
            except OSError:
                self._listings[place] = {}
        return self._listings[place]


@cache
def say_once(sentence: str) -> None:
    """Tell the user what does not count; the same thing is told once."""
    logger.warning("%s", sentence)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _is_pattern(text: str) -> bool:
    return "*" in text or bool(ENDING.fullmatch(text))


def _is_read(path: Path, *, is_pattern: bool) -> bool:
    """Tell whether a file is none that code writes, nor one of a run that a pattern happens on."""
    here = Path.cwd()
    folders = path.relative_to(here).parent.parts if path.is_relative_to(here) else ()
    is_of_run = is_pattern and any(map(is_left_by_runs, folders))
    return path.suffix not in INCIDENTAL and not is_of_run


def _name_of(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _first_of(text: str) -> str:
    """Return the first part of a path, nothing for one that does not begin in a place."""
    if text.startswith(("/", "~", "$")):
        return ""
    return next(iter(PurePath(text).parts), "")


def _that_may_lie_in(
    listing: Mapping[str, None], by_first: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield the texts whose first part is in a folder, or may be."""
    firsts = sorted(listing.keys() & by_first.keys())
    firsts += [first for first in by_first if first == ".." or "*" in first]
    for first in firsts:
        yield from by_first[first]


def _paths_of(text: str, place: Path) -> list[Path]:
    try:
        given = Path(os.path.expandvars(text)).expanduser()
        path = Path(os.path.normpath(place / given))  # else each .. leads to one more place
        if "*" not in text:
            return [path]
        parent, pattern = (place, text) if _first_of(text) else (path.parent, path.name)
        return [] if "*" in str(parent) else sorted(parent.glob(pattern))
    except NO_FILE:  # no name of a file
        return []
