"""Copies of networks, also of those that `copy.deepcopy` refuses."""

import copy
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

T = TypeVar("T")
CONTAINERS = frozenset({dict, OrderedDict, set})
"""Kinds of containers that modules hold empty: hooks and names of buffers that are not saved."""
NUMBERS = frozenset({Tensor, nn.Parameter})


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
        memo = {**_small_parts(item), **(known or {})}
        with _Detaching():
            return copy.deepcopy(item, memo)
    except Exception:  # whatever an attribute raises that does not want to be copied
        with _Detaching():
            twin: T = _Copier(dict(known or {})).copied(item)
    if isinstance(twin, nn.Module):
        vars(twin)["__deepcopy__"] = MethodType(_copied_again, twin)
    return twin


def _small_parts(item: Any) -> dict[int, Any]:
    """Copy what modules hold most of, as `copy.deepcopy` would, without its questions.

    Returns:
        id of an empty container, or of a buffer that shares its memory with none -> its copy.
    """
    if not isinstance(item, nn.Module):
        return {}
    held = [part for module in item.modules() for part in vars(module).values()]
    empty = (part for part in held if type(part) in CONTAINERS and not part)
    tensors = [t for t in (*item.parameters(), *item.buffers(), *held) if type(t) in NUMBERS]
    memories = [t.untyped_storage().data_ptr() for t in tensors if t.layout is torch.strided]
    shared = {memory for memory, n in Counter(memories).items() if n > 1}
    alone = (t for t in tensors if _is_plain(t) and t.untyped_storage().data_ptr() not in shared)
    return {id(part): type(part)() for part in empty} | {id(t): t.clone() for t in alone}


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is numbers in the order of the memory, and nothing else."""
    if type(tensor) is not Tensor or tensor.layout is not torch.strided or vars(tensor):
        return False
    is_odd = tensor.requires_grad or tensor.is_inference() or tensor.is_complex()
    return tensor.is_contiguous() and not (is_odd or tensor.is_quantized)


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
