"""The code of the user's that decides a result: what builds the parts, and all that it imports."""

import hashlib
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from admm_exp.experiment.installed import is_own, of_python, version_of
from admm_exp.experiment.mentions import mentions, names_in
from admm_exp.experiment.named_files import NamedFiles, Walk, say_once

PACKAGE = "admm_exp"
DOTTED = re.compile(r"\.*[^\W\d]\w*([.:][^\W\d]\w*)*")
MOST_BYTES_READ = 2**20
"""Of a file of data in which names are looked for."""
MOST_NAMES = 10_000
"""In a file of data; a longer list is one of data, not of parts."""

_loaded: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


def own_code(parts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name the code behind parts that is not this package's; nothing is imported for it.

    Modules of the user's own are followed through what they import, in functions too, and through
    the texts in them, in the settings of their part and in the files of data that they name, that
    name a module or a file. Of a module that lists folders, or runs code under a name that is
    worked out, every .py file below its outermost package counts, or below its folder; of one
    that lists folders the folders that it names too, and the endings. Variables of the environment
    that it reads count. Installed packages count by their version; the standard library does not.
    Of a loaded module the source counts as it was when it was first asked for: a later edit does
    not reach this process.

    Args:
        parts: Settings with a `_target_`, at any depth; those of this package count for nothing.

    Returns:
        Hash of every module and file of the user's, version of every package, by name.
    """
    search = _Search()
    for part in parts:
        search.imported |= dict.fromkeys(_targets(part))
        search.modules_said |= search.note(_texts(part))
    search.follow()
    return dict(sorted((search.files() | search.modules | search.packages).items()))


class _Search:
    """What has been found so far, what it mentions, and where to look."""

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.imported: dict[str, None] = {}
        self.modules_said: set[str] = set()
        self.named = NamedFiles(self._hash_of_file)
        self.walks: dict[Path, Walk] = {}
        self._modules_by_file = {
            vars(module).get("__file__"): module  # asked for, some would import what they stand for
            for module in list(sys.modules.values())
            if isinstance(module, ModuleType)
        }

    def files(self) -> dict[str, str]:
        """Return the hash of every file that counts, by the text that names it."""
        return self.named.files() | self.variables

    def follow(self) -> None:
        """Look at all that is mentioned, until nothing new turns up."""
        known = -1
        while known != (known := self._count()):
            for name in list(self.imported):
                self._import(name, is_certain=True)
            for name in sorted(self.modules_said):
                self._import(name, is_certain=False)
            self.named.look_up()
            if known == self._count():  # folders last: what lies in them may be named too
                for folder, walk in list(self.walks.items()):
                    self.named.count_below(folder, walk)

    def note(self, texts: Iterable[str]) -> set[str]:
        """Keep texts that may name files; return those that may name modules."""
        found = dict.fromkeys(texts)
        self.named.texts |= found
        return {text.replace(":", ".").strip(".") for text in found if DOTTED.fullmatch(text)}

    def _count(self) -> int:
        return len(self.modules) + len(self.modules_said) + len(self.walks) + self.named.count()

    def _import(self, dotted: str, *, is_certain: bool) -> None:
        """Follow a name; one that a text only may mean counts if it is the user's."""
        for spec in _modules_of(dotted, self.named.places):
            package = spec.name.partition(".")[0]
            if spec.name in self.modules or package in self.packages or package == PACKAGE:
                continue
            if not is_own(spec):
                if is_certain and package not in of_python():
                    self.packages[package] = version_of(package)
            elif spec.has_location and spec.origin:
                self._read_module(spec, _file_of(spec.origin))

    def _read_module(self, spec: ModuleSpec, path: Path) -> None:
        content = path.read_bytes()
        self.modules[spec.name] = _hash_of_source(spec, content)
        self.named.modules.add(path)
        is_package = bool(spec.submodule_search_locations)
        package = spec.name if is_package else spec.name.rpartition(".")[0]
        depth = spec.name.count(".") + is_package
        home = path.parents[depth - 1] if depth else path.parent
        self._read_source(content, package, path, home)

    def _read_source(self, content: bytes, package: str, path: Path, home: Path) -> None:
        """Note what a source mentions, and which folders it may find the rest in.

        Args:
            content: Of the file.
            package: Where its relative imports start.
            path: Of the file.
            home: Folder of the outermost package that it lies in, or its own.
        """
        said = mentions(content, package)
        self.imported |= dict.fromkeys(said.imports)
        names = self.note(said.texts)
        if said.names_modules:
            self.modules_said |= names | {f"{package}.{name}" for name in names if package}
        self.named.places |= dict.fromkeys([path.parent, *_above(path, said.climbs)])
        self.named.written |= said.writes
        for name in said.variables:
            value = os.environ.get(name)
            self.variables[f"${name}"] = "unset" if value is None else _digest(value.encode())
            self.note([value] if value else [])
        if said.lists or said.loads:
            walk = self.walks.setdefault(home.resolve(), Walk())
            walk.lists |= said.lists
            walk.texts |= dict.fromkeys(said.texts if said.lists else ())
        for name in said.packages:
            for spec in _modules_of(name, self.named.places):
                for place in spec.submodule_search_locations or () if is_own(spec) else ():
                    self.walks.setdefault(Path(place).resolve(), Walk())

    def _hash_of_file(self, path: Path) -> str:
        content = path.read_bytes()
        if path.suffix == ".py":  # run or loaded by its path
            self._read_source(content, "", path, path.parent)
            module = self._modules_by_file.get(str(path))
            return (
                _digest(content) if module is None else _loaded.setdefault(module, _digest(content))
            )
        if len(content) <= MOST_BYTES_READ:
            names = names_in(content)
            if len(names) > MOST_NAMES:
                say_once(f"{path} names {len(names)} things: an edit of them is not noticed")
            else:
                self.note(names)
                self.named.places[path.parent] = None
        return _digest(content)


def _above(path: Path, climbs: int) -> list[Path]:
    """Return the folders above a file's own that its steps up lead to, the root left out."""
    places = [*path.parents[1 : climbs + 1], *(Path.cwd() / path.name).parents[1 : climbs + 1]]
    return [place for place in places if place != place.parent]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _hash_of_source(spec: ModuleSpec, content: bytes) -> str:
    module = sys.modules.get(spec.name)
    if not isinstance(module, ModuleType) or getattr(module, "__file__", None) != spec.origin:
        return _digest(content)
    return _loaded.setdefault(module, _digest(content))


def _file_of(origin: str) -> Path:
    """Return the file of a module, which may be an archive that holds it."""
    path = Path(origin)
    return next((place for place in (path, *path.parents) if place.is_file()), path)


def _is_own_target(target: object) -> bool:
    return str(target).startswith(f"{PACKAGE}.")


def _texts(value: Any, *, is_user: bool = False) -> Iterator[str]:
    """Yield all texts in the settings of parts that are not this package's."""
    if isinstance(value, str) and is_user:
        yield value
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.values()
        if "_target_" in value:
            is_user = not _is_own_target(value["_target_"])
    elif isinstance(value, list | tuple):
        items = value
    for item in items:
        yield from _texts(item, is_user=is_user)


def _targets(value: Any) -> Iterator[str]:
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.values()
        target = value.get("_target_")
        if isinstance(target, str):
            yield target.replace(":", ".")
    elif isinstance(value, list | tuple):
        items = value
    for item in items:
        yield from _targets(item)


def _modules_of(dotted: str, places: Iterable[Path]) -> Iterator[ModuleSpec]:
    """Find the modules that importing a name runs: its packages, then itself if it is a module.

    Args:
        dotted: The name.
        places: Folders that code may add to the path by itself.
    """
    first, *others = dotted.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):  # such as __main__
        return
    if spec is None:
        spec = PathFinder.find_spec(first, list(map(str, places)))
    while spec is not None:
        yield spec
        if not others or spec.submodule_search_locations is None:
            return
        name = f"{spec.name}.{others.pop(0)}"
        finders = map(pkgutil.get_importer, spec.submodule_search_locations)
        found = (finder.find_spec(name) for finder in finders if finder is not None)
        spec = next(filter(None, found), None)
