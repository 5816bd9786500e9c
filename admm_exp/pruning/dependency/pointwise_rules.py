"""How channels go through element-wise operations."""

from itertools import product
from typing import Any

import torch
from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import compact, is_shifted, varying, zeroed
from admm_exp.pruning.dependency.structures import tensors_in

SAMPLES = (0.7, -1.3, 2.0)
"""What stands for the unknown entries when an operation is asked whether it keeps zeros."""


def pointwise(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Unite the codes of all operands, and ask whether zeros stay zero."""
    out = tensors_in([outputs])[0]
    operands = tensors_in([args, kwargs])
    codes = {i: c for i, t in enumerate(operands) if (c := flow.codes(t)) is not None}
    padded = {i: c.reshape((1,) * (out.dim() - c.dim()) + c.shape) for i, c in codes.items()}
    for i in list(padded):
        others = {d for j, c in padded.items() if j != i for d in varying(c)}
        if len(padded) > 1 and _is_spread(flow, operands[i], padded[i], others):
            del padded[i], codes[i]
    flags: Tensor = torch.zeros((1,) * out.dim(), dtype=torch.int64)
    joined: Tensor | None = None
    for position, (_, own) in enumerate(padded.items()):
        flags = flags + (is_shifted(own).long() << position)
        joined = zeroed(own) if joined is None else flow.labels.unite(joined, zeroed(own))
    assert joined is not None
    joined = compact(flow.labels.find(joined))
    for i, operand in enumerate(operands):
        shape = (1,) * (out.dim() - operand.dim()) + tuple(operand.shape)
        if i not in codes and any(joined.shape[d] > 1 < shape[d] for d in range(out.dim())):
            flow.keep(joined, f"{flow.here} combines it with a constant of its width")
            return None
    if args and out is args[0] and out._is_view() and 0 not in codes:
        flow.keep(joined, f"{flow.here} writes it into a part of a tensor")
    moved = _moves_zero(func, args, kwargs, operands, list(codes))
    shape = torch.broadcast_shapes(flags.shape, joined.shape)
    is_moved, joined = moved[flags.expand(shape)], joined.expand(shape)
    if not is_moved.any():
        return joined
    name = func._overloadpacket.__name__.strip("_")
    return joined.masked_scatter(is_moved, flow.shift(joined[is_moved], f"{name} in {flow.here}"))


def _is_spread(flow: Flow, operand: Tensor, codes: Tensor, others: set[int]) -> bool:
    """Whether an operand is one number for all channels of the others, as a gate of one channel.

    Such an operand stays whole, and ties nothing.
    """
    if not others.isdisjoint(varying(codes)):
        return False
    if flow.is_parameter(operand):
        return True
    missing = codes.dim() - operand.dim()
    has_width = any(d >= missing and operand.shape[d - missing] > 1 for d in others)
    if has_width or not others:
        return False
    if codes.numel() == 1:
        flow.keep(codes, f"{flow.here} spreads it over other channels")
        return True
    return flow.is_bare(codes)


def _moves_zero(
    func: Any, args: Any, kwargs: Any, operands: list[Tensor], followed: list[int]
) -> Tensor:
    """Ask the operation itself whether its result is zero, for every set of shifted operands."""
    answers, ids = [], {id(operands[i]) for i in followed}
    for shifted in product((False, True), repeat=len(followed)):
        zeros = {id(operands[i]) for i, s in zip(followed, reversed(shifted), strict=True) if not s}
        asked = (_result(func, args, kwargs, zeros, x, ids) for x in SAMPLES)
        answers.append(any(result != 0.0 for result in asked))
    return torch.tensor(answers)


def _result(
    func: Any, args: Any, kwargs: Any, zeros: set[int], value: float, followed: set[int]
) -> float:
    def stand_in(item: Any) -> Any:
        if isinstance(item, Tensor):
            number = 0.0 if id(item) in zeros else value
            if item.dim() == 0 and id(item) not in followed and not item.is_meta:
                number = float(item)  # a number that the code gives
            number = number if item.is_floating_point() else float(number != 0.0)
            return torch.full((1,), number, dtype=item.dtype)
        if isinstance(item, list | tuple):
            return type(item)(stand_in(part) for part in item)
        return item

    options = {key: stand_in(v) for key, v in kwargs.items() if key != "memory_format"}
    result = tensors_in([func(*(stand_in(arg) for arg in args), **options)])[0]
    return float(result)
