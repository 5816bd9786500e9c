"""What a folder that someone else made may say: plain values, and this package's own parts."""

import inspect
import os
import pkgutil
import re
import shlex
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from admm_exp.errors import ConfigError
from admm_exp.results import (
    CHECKPOINTS,
    FIGURES,
    JOURNAL,
    LAYERS,
    PAGE,
    PROGRAM,
    REPORT,
    STRUCTURE,
    WEIGHTS,
)

TARGET = "_target_"
ROOMS = ("admm_exp.admm.", "admm_exp.data.", "admm_exp.methods.", "admm_exp.models.")
"""Where the parts of an experiment are defined; functions elsewhere write files, run commands."""
DOTTED_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
SPECIAL_KEY = re.compile(r"_[a-z]+_")
INTERPOLATION = "${"
RUN_FILES = (JOURNAL, LAYERS, REPORT, PAGE, STRUCTURE, WEIGHTS, PROGRAM, ".hydra/lock")
RUN_FOLDERS = (CHECKPOINTS, FIGURES)
MOST_BYTES, DEEPEST = 2**20, 50
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def require_plain_folder(folder: Path) -> None:
    """Check that all that lies in a folder is a file or folder of its own.

    What goes on with a run writes there: through a link it would write, or delete, elsewhere.

    Raises:
        ConfigError: If a link leads out of the folder, or something is a device or a pipe.
    """
    root = Path(os.path.realpath(folder))
    for path in all_in(folder):
        status = path.lstat()
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            _require_inside(path, root)
        if not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ConfigError(f"{path} is neither a file nor a folder: remove it")
        if stat.S_ISREG(mode) and status.st_nlink > 1:
            raise ConfigError(
                f"{path} is one of {status.st_nlink} names of a file, and what is written to it "
                f"would change the others: put a copy in its place"
            )
        if path.parent == folder / ".hydra" and status.st_size > MOST_BYTES:
            raise ConfigError(f"{path} has more than {MOST_BYTES} bytes: remove it")
    for name in RUN_FILES:
        if (folder / name).is_dir():
            raise ConfigError(f"{folder / name} is a folder and should be a file: remove it")
    for name in RUN_FOLDERS:
        if (folder / name).is_file():
            raise ConfigError(f"{folder / name} is a file and should be a folder: remove it")


def _require_inside(path: Path, root: Path) -> None:
    """Check that a link leads to a place in a folder, where there need not be anything."""
    place = Path(os.path.realpath(path))  # resolve() fails at a link that leads to itself
    if not place.is_relative_to(root) or place.is_symlink():
        where = "to itself" if place.is_symlink() else f"out of {root}"
        raise ConfigError(f"{path} is a link that leads {where}: put a file in its place")


def all_in(folder: Path) -> Iterator[Path]:
    """Yield all that lies in a folder, at any depth; links are not followed.

    Nothing lies in a folder that is missing: who reads it tells.

    Raises:
        ConfigError: If folders lie in each other more than `DEEPEST` deep, or one cannot be read.
    """
    waiting = [(folder, 0)] if folder.is_dir() else []
    while waiting:
        place, depth = waiting.pop()
        if depth > DEEPEST:
            raise ConfigError(f"{folder} holds folders more than {DEEPEST} deep: remove them")
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise ConfigError(
                f"{place} cannot be read ({error.strerror}): let yourself read it"
            ) from error
        for entry in entries:
            yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((Path(entry.path), depth + 1))


def read_settings(path: Path) -> dict[str, Any]:
    """Read stored settings as plain data; nothing in them is resolved or built.

    Raises:
        ConfigError: If the file is damaged, or no mapping of plain values.
    """
    try:
        _require_plain_yaml(path)
        settings = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, yaml.YAMLError, OmegaConfBaseException, *DAMAGE) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path} is damaged ({reason}): start a new run") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} is damaged (it holds no settings): start a new run")
    return {str(key): value for key, value in settings.items()}


def require_plain_values(settings: Mapping[str, Any], where: Path) -> None:
    """Check that settings hold nothing that is worked out when they are read.

    Args:
        settings: As they stand in the file.
        where: The folder they come from, for the message.

    Raises:
        ConfigError: If a key or a value is an interpolation.
    """
    for key, value in _leaves(settings):
        for text in (key, value):
            if isinstance(text, str) and INTERPOLATION in text:
                raise ConfigError(
                    f"{where} sets {key} to {text!r}, which is no plain value, and what a folder "
                    f"says is not executed: write the value that is meant"
                )


def is_plain(settings: Mapping[str, Any]) -> bool:
    """Tell whether settings may be stored and read again as they are."""
    return not any(isinstance(v, str) and INTERPOLATION in v for _, v in _leaves(settings))


def require_own_code(
    settings: Mapping[str, Any], where: Path, confirmed: Collection[tuple[str, str]] = ()
) -> None:
    """Check that all code that settings name is this package's, or confirmed by the user.

    Args:
        settings: As they stand in the file.
        where: The folder they come from, for the message.
        confirmed: Keys and targets that the user named on the command line.

    Raises:
        ConfigError: With what to add to the command line if the code is the user's.
    """
    for prefix, part in _parts(settings):
        key, target = f"{prefix}{TARGET}", part[TARGET]
        if not isinstance(target, str):
            raise ConfigError(f"{where} sets {key} to {target!r}: it must be the name of a part")
        if (key, target) in confirmed:
            continue
        if not is_own_part(target):
            raise ConfigError(
                f"{where} names code that is not this package's: confirm it with "
                f"{shlex.quote(f'{key}={target}')}"
            )
        special = [name for name in part if name != TARGET and SPECIAL_KEY.fullmatch(str(name))]
        if special:
            raise ConfigError(
                f"{where} sets {prefix}{special[0]}, which changes how {target} is called: remove "
                f"it, or confirm the part with {shlex.quote(f'{key}={target}')}"
            )


def is_own_part(target: str) -> bool:
    """Tell whether a name leads to a function or class that a room of parts itself defines.

    Nothing but modules of these rooms is imported for the answer.
    """
    if not (DOTTED_NAME.fullmatch(target) and target.startswith(ROOMS)):
        return False
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return False
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return False
    home = found.__module__
    defined = getattr(sys.modules.get(home), found.__qualname__, None)
    return home.startswith(ROOMS) and defined is found


def targets(settings: Mapping[str, Any]) -> set[tuple[str, str]]:
    """List the keys and values of all `_target_` in settings."""
    return {(f"{prefix}{TARGET}", str(part[TARGET])) for prefix, part in _parts(settings)}


def _require_plain_yaml(path: Path) -> None:
    """Check a file before it is loaded: names of classes run code, aliases blow up memory."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    depth = 0
    for event in yaml.parse(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("it holds an alias")
        if getattr(event, "tag", None):
            raise ValueError(f"it holds the tag {event.tag}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is more than {DEEPEST} levels deep")


def _parts(value: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield every mapping that names what builds it, with its place."""
    if isinstance(value, Mapping) and TARGET in value:
        yield prefix, value
    for key, item in _items(value):
        yield from _parts(item, f"{prefix}{key}.")


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = list(_items(value))
    if not items:
        yield prefix.removesuffix("."), value
    for key, item in items:
        yield from _leaves(item, f"{prefix}{key}.")


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
