"""Batches of any structure: lists, tuples and mappings of tensors, in any depth."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors_of(item: Any) -> list[Tensor]:
    """List the tensors of a batch, or of a part of it, in order."""
    return list(_leaves(item))


def moved(item: Any, device: torch.device) -> Any:
    """Copy a batch to a device; what holds no tensor stays as it is."""
    if isinstance(item, Tensor):
        return item.to(device)
    if isinstance(item, Mapping):
        return {key: moved(part, device) for key, part in item.items()}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(moved(part, device) for part in item))
    if isinstance(item, list | tuple):
        return type(item)(moved(part, device) for part in item)
    return item


def samples_in(inputs: Any) -> int:
    """Count the samples: the entries of a list, or the rows of the first tensor."""
    if isinstance(inputs, list):
        return len(inputs)
    first = tensors_of(inputs)[0]
    return len(first) if first.dim() else 1


def _leaves(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, Mapping):
        for part in item.values():
            yield from _leaves(part)
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _leaves(part)
