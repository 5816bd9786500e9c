"""The code of the user's that decides a result: what builds the parts, and all that it imports."""

import hashlib
import importlib.util
import pkgutil
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from admm_exp.experiment.mentions import mentions

PACKAGE = "admm_exp"
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""What folders that only installers write to are called, in whatever environment."""
DOTTED = re.compile(r"\.*[^\W\d]\w*([.:][^\W\d]\w*)*")
MOST_BYTES = 2**24
"""Of a file that counts by its content; a larger one counts by its size and time of change."""
MANY = 200
"""Files that one pattern means; of more each counts by its size and time, as a large one does."""
INCIDENTAL = frozenset({".log", ".jsonl", ".out", ".err", ".lock", ".db", ".tmp"})
"""Endings of files that code writes rather than reads."""

_loaded: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


def own_code(parts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name the code behind parts that is not this package's; nothing is imported for it.

    Modules of the user's own are followed through what they import, in functions too, and through
    the texts in them, and in the settings of their part, that name a module or a file. Installed
    packages count by their version; the standard library does not. Of a loaded module the source
    counts as it was when it was first asked for: a later edit does not reach this process.

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
    return dict(sorted((search.files | search.modules | search.packages).items()))


class _Search:
    """What has been found so far, what it mentions, and where to look."""

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.places: dict[Path, None] = {Path.cwd(): None}
        self.imported: dict[str, None] = {}
        self.texts: dict[str, None] = {}
        self.modules_said: set[str] = set()

    def follow(self) -> None:
        """Look at all that is mentioned, until nothing new turns up."""
        known = -1
        while known != (known := len(self.modules) + len(self.places) + len(self.texts)):
            for name in list(self.imported):
                self._import(name, is_certain=True)
            for name in sorted(self.modules_said):
                self._import(name, is_certain=False)
            for text in list(self.texts):
                self._look_up(text)

    def note(self, texts: Iterable[str]) -> set[str]:
        """Keep texts that may name files; return those that may name modules."""
        found = dict.fromkeys(texts)
        self.texts |= found
        return {text.replace(":", ".").strip(".") for text in found if DOTTED.fullmatch(text)}

    def _import(self, dotted: str, *, is_certain: bool) -> None:
        """Follow a name; one that a text only may mean counts if it is the user's."""
        for spec in _modules_of(dotted, self.places):
            package = spec.name.partition(".")[0]
            if spec.name in self.modules or package in self.packages or package == PACKAGE:
                continue
            if not _is_own(spec):
                if is_certain and package not in _of_python():
                    self.packages[package] = _version(package)
            elif spec.has_location and spec.origin:
                self._read_module(spec, _file_of(spec.origin))

    def _read_module(self, spec: ModuleSpec, path: Path) -> None:
        content = path.read_bytes()
        self.modules[spec.name] = _hash_of_source(spec, content)
        self.places[path.parent] = None
        is_package = bool(spec.submodule_search_locations)
        package = spec.name if is_package else spec.name.rpartition(".")[0]
        found = self._read_source(content, package)
        if is_package and found:
            self.modules_said |= {f"{spec.name}.{p.stem}" for p in path.parent.glob("*.py")}

    def _read_source(self, content: bytes, package: str) -> bool:
        """Note what a source mentions; tell whether it looks for modules in its folder."""
        said = mentions(content, package)
        self.imported |= dict.fromkeys(said.imports)
        names = self.note(said.texts)
        if said.names_modules:
            self.modules_said |= names | {f"{package}.{name}" for name in names if package}
        return said.finds_modules

    def _look_up(self, text: str) -> None:
        """Find the files that a text means, in all places; a folder is one more place."""
        if "\n" in text or not text.strip(" ./*"):
            return
        is_pattern = "*" in text and "**" not in text and not text.startswith("/")
        found: dict[str, str] = {}
        for place in list(self.places):
            try:
                paths = list(place.glob(text)) if is_pattern else [place / text]
                for path in paths:
                    if path.is_dir():
                        self.places[path] = None
                    elif path.is_file() and path.suffix not in INCIDENTAL:
                        is_one_of_many = len(paths) > MANY
                        found[str(path)] = self._hash_of_file(path, is_one_of_many)
            except (OSError, ValueError):  # no name of a file
                continue
        if found:
            hashes = [found[path] for path in sorted(found)]
            self.files[text] = hashes[0] if len(hashes) == 1 else _digest("".join(hashes).encode())

    def _hash_of_file(self, path: Path, is_one_of_many: bool) -> str:
        status = path.stat()
        if is_one_of_many or status.st_size > MOST_BYTES:
            return f"{status.st_size} bytes of {status.st_mtime_ns}"
        content = path.read_bytes()
        if path.suffix == ".py":  # run or loaded by its path
            self._read_source(content, "")
        return _digest(content)


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


def _is_own(spec: ModuleSpec) -> bool:
    """Tell whether a module lies where its user edits it: in no folder of installed packages."""
    file = spec.origin if spec.has_location else None
    folders = [file] if file else list(spec.submodule_search_locations or ())
    return any(not _is_installed(Path(folder), spec.name) for folder in folders)


def _is_installed(place: Path, module: str) -> bool:
    """Tell whether a file or folder of a module was put there by an installer.

    It may have got on the path by a .pth file, or out of another environment: its folder's name
    tells, or the record that an installer leaves beside it.
    """
    # an installer may link single files to where it keeps them; a linked folder is its user's
    for found in (place.resolve(), place.parent.resolve()):
        if not INSTALLED.isdisjoint(found.parts):
            return True
        if any(found.is_relative_to(folder) for folder in _installed()):
            return True
    depth = module.count(".") + (place.stem == "__init__")
    return _is_recorded(place.parents[depth], module.partition(".")[0])


@cache
def _is_recorded(root: Path, package: str) -> bool:
    """Tell whether an installer's record in a folder names a package beside it."""
    return any(
        line.startswith((f"{package}/", f"{package}.py,"))
        for record in root.glob("*.dist-info/RECORD")
        for line in record.read_text(encoding="utf-8", errors="replace").splitlines()
    )


@cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(
        Path(folder).resolve()
        for folder in (*folders, *site.getsitepackages(), site.getusersitepackages())
    )


@cache
def _of_python() -> frozenset[str]:
    return frozenset({*sys.stdlib_module_names, *sys.builtin_module_names})


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # a package may be called otherwise than its distribution
        pass
    names = _distributions().get(package, [])
    return ", ".join(f"{name} {version(name)}" for name in sorted(set(names))) or "unknown"


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()
