"""Numbers inside of what modules hold: tuples, lists, dicts, records and plain objects."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from enum import Enum
from types import ModuleType
from typing import Any

from torch import Tensor, nn

MAX_DEPTH = 3
"""Levels that are opened: `config.encoder["heads"]` has two."""
MAX_ENTRIES = 500
"""Larger collections hold data, not sizes."""


def is_integer(value: Any) -> bool:
    """Whether this may be a size: a whole number above 1."""
    return isinstance(value, int) and not isinstance(value, bool | Enum) and value > 1


def integers_in(value: Any, depth: int = MAX_DEPTH) -> Iterator[tuple[str, int]]:
    """List the sizes that something holds, each with the path to it.

    Args:
        value: A number, or what holds numbers.
        depth: Levels that are opened.

    Returns:
        Path, empty for the number itself, as `.heads.0` otherwise, and the number.
    """
    if is_integer(value):
        yield "", value
    elif depth:
        for key, part in _parts(value).items():
            yield from ((f".{key}{path}", n) for path, n in integers_in(part, depth - 1))


def replaced(value: Any, path: Sequence[str], new: Any) -> Any:
    """Copy what holds something, with another thing at the end of a path.

    Args:
        value: What `integers_in` looked into.
        path: Keys, the outermost first.
        new: What stands there in the copy.
    """
    if not path:
        return new
    key, *rest = path
    part = replaced(_parts(value)[key], rest, new)
    if isinstance(value, list | tuple):
        parts = [part if str(i) == key else old for i, old in enumerate(value)]
        return value._make(parts) if hasattr(value, "_make") else type(value)(parts)
    twin = copy.copy(value)
    if isinstance(value, dict):
        twin[next(own for own in value if str(own) == key)] = part
    else:
        object.__setattr__(twin, key, part)
    return twin


def _parts(value: Any) -> dict[str, Any]:
    """List what a collection or a plain object holds, by keys without a dot."""
    if type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_make")):
        found = {str(i): part for i, part in enumerate(value[:MAX_ENTRIES])}
        return found if len(value) <= MAX_ENTRIES else {}
    if isinstance(value, dict):
        named = {str(key): part for key, part in value.items() if isinstance(key, str | int)}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        named = {name: getattr(value, name) for name in fields if hasattr(value, name)}
    else:
        named = vars(value) if _is_plain(value) else {}
    is_small = len(named) <= MAX_ENTRIES
    return {key: part for key, part in named.items() if "." not in key} if is_small else {}


def _is_plain(value: Any) -> bool:
    """Whether this is an object of attributes, as those that hold settings."""
    if isinstance(value, Tensor | nn.Module | type | ModuleType | Enum) or callable(value):
        return False
    return hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] != "torch"
