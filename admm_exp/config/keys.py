"""The names of the settings, and what a misspelt one was meant to be."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast, get_type_hints

from admm_exp.config.settings import ExperimentConfig


def nearest_key(key: str, schema: type = ExperimentConfig) -> str | None:
    """Find the setting whose full or short name is nearest to a misspelt one."""
    names = known_keys(schema)
    if by_leaf := [name for name in names if name.rpartition(".")[2] == key]:
        return by_leaf[0]
    near = difflib.get_close_matches(key, names, 1, cutoff=0.6)
    if near:
        return near[0]
    leaves = {name.rpartition(".")[2]: name for name in names}
    near = difflib.get_close_matches(key.rpartition(".")[2], leaves, 1, cutoff=0.6)
    return leaves[near[0]] if near else None


@cache
def known_keys(schema: type = ExperimentConfig) -> tuple[str, ...]:
    """List the dotted names of all settings of a command."""
    return tuple(_keys(schema))


def _keys(schema: type, prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(schema).items():
        yield prefix + name
        if dataclasses.is_dataclass(hint):
            yield from _keys(cast(type, hint), f"{prefix}{name}.")


def unknown_keys(settings: Mapping[str, Any], root: type, prefix: str = "") -> Iterator[str]:
    """Word a sentence for each key of nested settings that a command does not know."""
    known = known_keys(root)
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if name not in known:
            yield unknown_key(name, root)
        elif any(k.startswith(f"{name}.") for k in known) and isinstance(value, Mapping):
            yield from unknown_keys(value, root, f"{name}.")


def unknown_key(key: str, schema: type = ExperimentConfig) -> str:
    """Word the sentence for a key that no setting has."""
    near = nearest_key(key, schema)
    known = ", ".join(name for name in known_keys(schema) if "." not in name)
    hint = f"did you mean {near!r}?" if near else f"known settings: {known}"
    return f"unknown setting {key!r}; {hint}"
