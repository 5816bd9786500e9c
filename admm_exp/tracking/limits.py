"""The shape that MLflow asks of names and values."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

MAX_KEY_LENGTH = 250
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_DIGEST_LENGTH = 36
METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100

Item = TypeVar("Item")


def flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Turn nested settings into MLflow parameters.

    Args:
        settings: Nested mappings; None becomes "null", an empty mapping "{}".
        prefix: Dotted name of the mapping that holds `settings`, with its last dot.

    Returns:
        Legal dotted names and texts of at most 6000 characters.
    """
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            text = "null" if value is None else str(value)
            flat[legal_key(f"{prefix}{name}")] = text[:MAX_PARAM_LENGTH]
    return flat


def legal_key(key: str) -> str:
    """Return the nearest name that every MLflow store takes.

    Args:
        key: Name of a metric or parameter.
    """
    path = posixpath.normpath(re.sub(r"[^\w./\- ]", "_", key))
    return path.lstrip("./")[:MAX_KEY_LENGTH] or "_"


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield `items` in order, `size` at a time.

    Args:
        items: What to split.
        size: Largest length of a part.
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]
