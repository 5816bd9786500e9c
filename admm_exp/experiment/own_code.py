"""The code of the user's that decides a result: what builds the parts, and all that it imports."""

import ast
import hashlib
import importlib.util
import pkgutil
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

PACKAGE = "admm_exp"
IMPORTS = ("import_module", "__import__")
UNREADABLE = (SyntaxError, ValueError, RecursionError)
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""What folders that only installers write to are called, in whatever environment."""


def own_code(parts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name the code behind parts that is not this package's; nothing is imported for it.

    Modules of the user's own are followed through what they import, in functions too. Installed
    packages count by their version; the standard library does not.

    Args:
        parts: Settings with a `_target_`, at any depth; those of this package count for nothing.

    Returns:
        Hash of the file of every module of the user's, version of every package, by name.
    """
    modules: dict[str, str] = {}
    packages: dict[str, str] = {}
    waiting = [target for part in parts for target in _targets(part)]
    while waiting:
        for spec in _modules_of(waiting.pop()):
            package = spec.name.partition(".")[0]
            if spec.name in modules or package in packages or package in _without_say():
                continue
            if not _is_own(spec):
                packages[package] = _version(package)
            elif spec.has_location and spec.origin:
                content = Path(spec.origin).read_bytes()
                modules[spec.name] = hashlib.sha256(content).hexdigest()[:16]
                waiting += _imported(content, spec)
    return dict(sorted((modules | packages).items()))


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


def _modules_of(dotted: str) -> Iterator[ModuleSpec]:
    """Find the modules that importing a name runs: its packages, then itself if it is a module."""
    first, *others = dotted.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):  # such as __main__
        return
    while spec is not None:
        yield spec
        if not others or spec.submodule_search_locations is None:
            return
        name = f"{spec.name}.{others.pop(0)}"
        finders = map(pkgutil.get_importer, spec.submodule_search_locations)
        found = (finder.find_spec(name) for finder in finders if finder is not None)
        spec = next(filter(None, found), None)


def _imported(content: bytes, spec: ModuleSpec) -> Iterator[str]:
    """List the names that a module imports, anywhere in it; none if it is no Python."""
    try:
        tree = ast.parse(content)
    except UNREADABLE:
        return
    package = spec.name if spec.submodule_search_locations else spec.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(package, node.level)
            module = ".".join(filter(None, (base, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in IMPORTS:
            yield from (
                given.value
                for given in node.args[:1]
                if isinstance(given, ast.Constant) and isinstance(given.value, str)
            )


def _base(package: str, level: int) -> str:
    """Resolve the dots of a relative import."""
    return "" if not level else ".".join(package.split(".")[: len(package.split(".")) - level + 1])


def _name(function: ast.expr) -> str | None:
    return getattr(function, "attr", getattr(function, "id", None))


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
def _without_say() -> frozenset[str]:
    return frozenset({PACKAGE, *sys.stdlib_module_names, *sys.builtin_module_names})


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
