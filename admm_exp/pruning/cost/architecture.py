"""What decides the work of a network: its code, its settings and the shapes of its tensors."""

from collections.abc import Hashable, Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, type, BuiltinFunctionType)
OF_TORCH = (torch.dtype, torch.device, torch.layout, torch.memory_format)
OWN = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"})


class _UnknownError(Exception):
    """A network holds what may decide its path and cannot be compared."""


def architecture_of(model: nn.Module, sample: Tensor) -> Hashable | None:
    """Name all that decides what a network's forward pass in eval mode does with shapes.

    Classes and functions are compared themselves: within a process their code stays the same.

    Args:
        model: The network; the numbers of its tensors do not count.
        sample: What it is run on; neither do these.

    Returns:
        Equal for networks that do the same; None if an attribute cannot be compared, such as a
        tensor that is neither parameter nor buffer, a hook or an object of the user's.
    """
    try:
        modules = tuple(
            (name, type(module), _plain({k: v for k, v in vars(module).items() if k not in OWN}))
            for name, module in model.named_modules(remove_duplicate=False)
        )
    except _UnknownError:
        return None
    named = (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    )
    tensors = tuple((name, type(t), t.shape, t.dtype) for name, t in named)
    return modules, tensors, sample.shape, sample.dtype


def _plain(value: Any) -> Hashable:
    if isinstance(value, PLAIN + OF_TORCH):
        return type(value), value
    if isinstance(value, FunctionType) and value.__closure__ is None:
        return value
    if type(value) in {tuple, list, torch.Size}:
        return type(value), tuple(map(_plain, value))
    if type(value) in {set, frozenset}:
        return type(value), frozenset(map(_plain, value))
    if isinstance(value, Mapping) and type(value).__module__ in {"builtins", "collections"}:
        return type(value), tuple((_plain(key), _plain(item)) for key, item in value.items())
    raise _UnknownError
