"""What an installer put where it lies, and what its user edits there."""

import site
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from admm_exp.experiment.folders import INSTALLED


def is_own(spec: ModuleSpec) -> bool:
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
def of_python() -> frozenset[str]:
    """Return the names of the modules that come with Python."""
    return frozenset({*sys.stdlib_module_names, *sys.builtin_module_names})


def version_of(package: str) -> str:
    """Say which version of an installed package lies there.

    Args:
        package: What it is imported as.
    """
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # a package may be called otherwise than its distribution
        pass
    names = _distributions().get(package, [])
    return ", ".join(f"{name} {version(name)}" for name in sorted(set(names))) or "unknown"


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()
