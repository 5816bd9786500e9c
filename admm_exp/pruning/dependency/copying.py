"""Copies of networks, also of those that `copy.deepcopy` refuses."""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from types import FunctionType, MethodType, NoneType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

T = TypeVar("T")
ATOMS = frozenset({NoneType, bool, int, float, str, FunctionType})
EMPTY = frozenset({OrderedDict, set})
"""Kinds of containers that modules hold empty: hooks and names of buffers that are not saved."""


def copied(item: T, known: Mapping[int, Any] | None = None) -> T:
    """Copy a network, or something that holds one.

    Tensors that were computed (stored activations, weights of `weight_norm` or of pruning masks,
    what hooks keep) are copied without their history. What cannot be copied, such as locks, files
    and generators, is shared with the original.

    Args:
        item: A network.
        known: id of an object -> what stands for it in the copy.

    Returns:
        A copy that `copy.deepcopy` can copy again.
    """
    try:
        return _twin(item, dict(known or {}))
    except Exception:  # whatever an attribute raises that does not want to be copied
        with _Detaching():
            twin: T = _Copier(dict(known or {})).copied(item)
    if isinstance(twin, nn.Module):
        vars(twin)["__deepcopy__"] = MethodType(_copied_again, twin)
    return twin


def _twin(item: Any, memo: dict[Any, Any]) -> Any:
    """Copy as `copy.deepcopy` does, but modules and what all of them hold without its questions.

    Args:
        item: Anything.
        memo: id of an object -> its copy.
    """
    kind: Any = type(item)
    if kind in ATOMS or (kind is tuple and ATOMS.issuperset(map(type, item))):
        return item
    if id(item) in memo:
        return memo[id(item)]
    if kind is dict or (kind in EMPTY and not item):
        twin: Any = kind()
        memo[id(item)] = twin
        for key in item:
            twin[_twin(key, memo)] = _twin(item[key], memo)
        return twin
    if kind is Tensor and _is_alone(item, memo):
        twin = item.clone()
        memo[id(item)] = twin
        memo["torch"][item.untyped_storage()._cdata] = twin.untyped_storage()
        return twin
    if isinstance(item, nn.Module) and (state := _state_of(item)) is not None:
        twin = kind.__new__(kind)
        memo[id(item)] = twin
        memo.setdefault(id(memo), []).append(state)  # an id must not be given twice
        twin.__setstate__({key: _twin(part, memo) for key, part in state.items()})
        return twin
    with _Detaching():
        return copy.deepcopy(item, memo)


def _is_alone(tensor: Tensor, memo: dict[Any, Any]) -> bool:
    """Whether a tensor is plain numbers, all of a memory of which nothing was copied yet."""
    is_plain = tensor.device.type == "cpu" and tensor.layout is torch.strided
    is_plain = is_plain and not (tensor.requires_grad or tensor.is_complex() or vars(tensor))
    if not is_plain or tensor.is_quantized or tensor.is_inference() or tensor.grad is not None:
        return False
    memory = tensor.untyped_storage()
    is_known = memory._cdata in memo.setdefault("torch", {})  # as torch's own copies note it
    return tensor.is_contiguous() and tensor.nbytes == memory.nbytes() and not is_known


def _state_of(module: nn.Module) -> dict[str, Any] | None:
    """List the attributes that make a module, as nearly all are made, or None."""
    kind: Any = type(module)
    if hasattr(kind, "__deepcopy__") or "__deepcopy__" in vars(module):
        return None
    made: Any = module.__reduce_ex__(4)
    is_bare = made[0].__name__ == "__newobj__" and made[1] == (kind,)
    return made[2] if is_bare and made[3:] == (None, None) else None


def unwritten(model: nn.Module) -> dict[int, nn.Parameter]:
    """Make parameters without content that stand for those of a network in a copy, by id."""
    return {
        id(p): nn.Parameter(torch.empty_like(p), p.requires_grad)
        for p in model.parameters()
        if type(p) is nn.Parameter and p.is_floating_point()
    }


def _copied_again(network: nn.Module, _: dict[int, Any]) -> nn.Module:
    return copied_apart(network)


def copied_apart(network: nn.Module) -> nn.Module:
    """Copy a network of which some part cannot be copied."""
    own = vars(network).pop("__deepcopy__", None)
    try:
        return copied(network)
    finally:
        if own is not None:
            vars(network)["__deepcopy__"] = own


class _Detaching(TorchFunctionMode):
    """Lets computed tensors be copied, without what they were computed from."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args[0], args[1]
        if id(tensor) in memo:
            return memo[id(tensor)]
        if tensor.is_leaf and not tensor.is_inference():
            return func(*args)
        memo[id(tensor)] = tensor.detach().clone()
        return memo[id(tensor)]


class _Copier:
    """Copies part by part, and shares the parts that cannot be copied.

    Args:
        memo: id of an object -> its copy.
    """

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo = memo
        self.originals: list[Any] = []  # keep them alive: an id must not be given twice

    def copied(self, item: Any) -> Any:
        if id(item) in self.memo:
            return self.memo[id(item)]
        trial = dict(self.memo)
        try:
            twin = copy.deepcopy(item, trial)
        except Exception:
            return self.taken_apart(item)
        self.memo.update(trial)
        return twin

    def taken_apart(self, item: Any) -> Any:
        if isinstance(item, dict):
            twin = self.noted(item, copy.copy(item))
            for key in item:
                twin[key] = self.copied(item[key])
            return twin
        if isinstance(item, list):
            twin = self.noted(item, copy.copy(item))
            twin[:] = [self.copied(part) for part in item]
            return twin
        if type(item) is tuple:
            return self.noted(item, tuple(self.copied(part) for part in item))
        if isinstance(item, MethodType):
            return self.noted(item, MethodType(item.__func__, self.copied(item.__self__)))
        if isinstance(item, partial):
            parts = self.copied([item.func, item.args, item.keywords])
            return self.noted(item, partial(parts[0], *parts[1], **parts[2]))
        return self.object(item)

    def object(self, item: Any) -> Any:
        try:
            twin = object.__new__(type(item))
        except TypeError:  # a lock, a file, a generator
            return self.noted(item, item)
        if not hasattr(item, "__dict__"):
            return self.noted(item, item)
        self.noted(item, twin)
        for key, part in vars(item).items():
            vars(twin)[key] = self.copied(part)
        return twin

    def noted(self, item: Any, twin: Any) -> Any:
        self.memo[id(item)] = twin
        self.originals.append(item)
        return twin
