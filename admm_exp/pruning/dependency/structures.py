"""Tensors inside of anything: lists, mappings, dataclasses and plain objects."""

import copy
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

MAX_DEPTH = 16
"""Objects may hold one another in a circle."""


def leaves_in(item: Any, depth: int = MAX_DEPTH) -> Iterator[Any]:
    """List what a structure holds in the end, in order: tensors, numbers, strings, None.

    Args:
        item: Lists, tuples, mappings, dataclasses and objects with attributes, in any depth.
        depth: Levels that are opened.
    """
    parts = _parts(item) if depth else None
    if isinstance(item, Tensor) and item.is_nested:
        parts = list(item.unbind())
    if parts is None:
        yield item
    else:
        for part in parts:
            yield from leaves_in(part, depth - 1)


def tensors_in(item: Any) -> list[Tensor]:
    """List the tensors among arguments or results of any structure."""
    if isinstance(item, Tensor):
        return [item]
    return [leaf for leaf in leaves_in(item) if isinstance(leaf, Tensor)]


def is_zero(tensor: Tensor) -> bool:
    """Whether a constant, known by its numbers, is zero everywhere."""
    with torch._C._DisableTorchDispatch():
        return not tensor.is_meta and not bool(tensor.any())


def map_tensors(item: Any, function: Callable[[Tensor], Any], depth: int = MAX_DEPTH) -> Any:
    """Copy a structure with every tensor replaced by what the function makes of it.

    Args:
        item: As `leaves_in` takes it; parts without tensors are not copied.
        function: Tensor -> what stands for it.
        depth: Levels that are opened.
    """
    if isinstance(item, Tensor):
        return function(item)
    if not depth or not tensors_in(item):
        return item
    if isinstance(item, tuple):
        parts = [map_tensors(part, function, depth - 1) for part in item]
        return type(item)(*parts) if hasattr(item, "_fields") else type(item)(parts)
    if isinstance(item, list):
        parts = [map_tensors(part, function, depth - 1) for part in item]
        return parts if type(item) is list else type(item)(parts)
    copied = copy.copy(item)
    if isinstance(item, Mapping):
        for key, part in item.items():
            copied[key] = map_tensors(part, function, depth - 1)
    if hasattr(item, "__dict__") and type(item) is not dict:
        for key, part in list(vars(copied).items()):
            object.__setattr__(copied, key, map_tensors(part, function, depth - 1))
    return copied


def _parts(item: Any) -> list[Any] | None:
    if isinstance(item, Tensor | str | bytes | type | nn.Module | ModuleType) or callable(item):
        return None
    if isinstance(item, Mapping):
        return list(item.values())
    if isinstance(item, list | tuple):
        return list(item)
    attributes = getattr(item, "__dict__", None)
    return list(attributes.values()) if attributes else None
