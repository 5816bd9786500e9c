"""How channels go through element-wise operations."""

from collections.abc import Hashable
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import compact, is_any_shifted, is_shifted, varying, zeroed
from admm_exp.pruning.dependency.rows import Rows
from admm_exp.pruning.dependency.size_rules import made_by_size
from admm_exp.pruning.dependency.structures import tensors_in

SAMPLES = (0.7, -1.3, 2.0)
"""What stands for the unknown entries when an operation is asked whether it keeps zeros."""


def pointwise(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Unite the codes of all operands, and ask whether zeros stay zero."""
    out = tensors_in([outputs])[0]
    operands = tensors_in([args, kwargs])
    codes = {i: c for i, t in enumerate(operands) if (c := flow.codes(t)) is not None}
    padded = {i: c.reshape((1,) * (out.dim() - c.dim()) + c.shape) for i, c in codes.items()}
    for i, operand in enumerate(operands):
        if i not in codes:
            own = _of_buffer(flow, operand, out.dim(), list(padded.values()))
            padded |= {} if own is None else {i: own}
            codes |= {} if own is None else {i: own}
    for i in list(padded):
        others = {d for j, c in padded.items() if j != i for d in varying(c)}
        shape = tuple(out.shape)
        if len(padded) > 1 and _is_spread(flow, operands[i], padded[i], others, shape):
            del padded[i], codes[i]
    joined: Tensor | None = None
    for own in padded.values():
        joined = zeroed(own) if joined is None else flow.labels.unite(joined, zeroed(own))
    assert joined is not None
    joined = compact(flow.labels.find(joined))
    if joined.numel() == 1 and any(varying(own) for own in padded.values()):
        flow.tied.append((joined.flatten(), flow.at_line(f"in {flow.here}")))
    for i, operand in enumerate(operands):
        shape = (1,) * (out.dim() - operand.dim()) + tuple(operand.shape)
        wide = [d for d in range(out.dim()) if joined.shape[d] > 1 < shape[d]]
        if i not in codes and wide and not _is_uniform(flow, operand, shape, wide, joined):
            flow.keep(joined, f"{flow.here} combines it with what is as wide and loses nothing")
            return None
    if args and out is args[0] and out._is_view() and 0 not in codes:
        flow.keep(joined, f"{flow.here} writes it into a part of a tensor")
    moved = _moves_zero(flow, func, args, kwargs, [operands[i] for i in codes])
    if not (moved[0] or any(map(is_any_shifted, padded.values()))):
        return joined
    flags: Tensor = torch.zeros((1,) * out.dim(), dtype=torch.int64)
    for position, own in enumerate(padded.values()):
        flags = flags + (is_shifted(own).long() << position)
    shape = torch.broadcast_shapes(flags.shape, joined.shape)
    is_moved, joined = moved[flags.expand(shape)], joined.expand(shape)
    if not is_moved.any():
        return joined
    name = func._overloadpacket.__name__.strip("_")
    return joined.masked_scatter(is_moved, flow.shift(joined[is_moved], f"{name} in {flow.here}"))


def _is_spread(
    flow: Flow, operand: Tensor, codes: Tensor, others: set[int], shape: tuple[int, ...]
) -> bool:
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
    if flow.is_bare(codes):
        return True
    n_others = prod(n for d, n in enumerate(shape) if d in others)
    if codes.numel() > n_others:
        return False
    flow.keep(codes, f"{flow.here} combines each of it with each of others")
    return True


def _of_buffer(flow: Flow, operand: Tensor, n_dims: int, others: list[Tensor]) -> Tensor | None:
    """Tie a buffer that is as wide as the channels it meets to them, or return None."""
    source = flow.constant(operand)
    if source is None or not operand.is_floating_point():
        return None
    missing = n_dims - operand.dim()
    varied = {d for codes in others for d in varying(codes) if d >= missing}
    wide = {d for d in varied if operand.shape[d - missing] > 1}
    if len(wide) != 1:
        return None
    place, dims = source
    (dim,) = wide
    own = dims[dim - missing]
    if own is None:
        return None
    codes = flow.tie_but(next(c for c in others if c.shape[dim] > 1), dim)
    codes = compact(zeroed(codes))
    flow.add_rows(Rows(*place, own, codes.flatten(), False, is_constant=True))
    return codes


def _is_uniform(
    flow: Flow, operand: Tensor, shape: tuple[int, ...], wide: list[int], codes: Tensor
) -> bool:
    """Whether a constant is one number for all channels, however many its code makes."""
    full = operand.view(shape)
    if operand.is_meta or not all(bool((full == full.narrow(d, 0, 1)).all()) for d in wide):
        return False
    for dim in wide:
        own = flow.tie_but(codes, dim).flatten() if len(varying(codes)) > 1 else codes.flatten()
        made_by_size(flow, operand, own, dim - (len(shape) - operand.dim()))
    return True


def _moves_zero(flow: Flow, func: Any, args: Any, kwargs: Any, followed: list[Tensor]) -> Tensor:
    """Ask the operation itself whether its result is zero, for every set of shifted operands."""
    ids = {id(operand): position for position, operand in enumerate(followed)}
    question = func, len(followed), _described(args, ids), _described(kwargs, ids)
    if question in flow.moved:
        return flow.moved[question]
    answers = []
    for shifted in product((False, True), repeat=len(followed)):
        zeros = {id(t) for t, s in zip(followed, reversed(shifted), strict=True) if not s}
        asked = (_result(func, args, kwargs, zeros, x, set(ids)) for x in SAMPLES)
        answers.append(any(result != 0.0 for result in asked))
    moved = torch.tensor(answers)
    if torch.Tag.nondeterministic_seeded not in func.tags:
        flow.moved[question] = moved
    return moved


def _described(item: Any, followed: dict[int, int]) -> Hashable:
    """Make a key of what an operation is asked with; numbers that the code gives count."""
    if isinstance(item, Tensor):
        is_number = item.dim() == 0 and id(item) not in followed and not item.is_meta
        return followed.get(id(item)), item.dtype, item.item() if is_number else None
    if isinstance(item, list | tuple):
        return tuple(_described(part, followed) for part in item)
    if isinstance(item, dict):
        return tuple((key, _described(part, followed)) for key, part in item.items())
    return (type(item), item) if isinstance(item, Hashable) else object()


def _result(
    func: Any, args: Any, kwargs: Any, zeros: set[int], value: float, followed: set[int]
) -> float:
    def stand_in(item: Any) -> Any:
        if isinstance(item, Tensor):
            number = 0.0 if id(item) in zeros else value
            if item.dim() == 0 and id(item) not in followed and not item.is_meta:
                number = float(abs(item.item()))  # a number that the code gives
            number = number if item.is_floating_point() else float(number != 0.0)
            return torch.full((1,), number, dtype=item.dtype)
        if isinstance(item, list | tuple):
            return type(item)(stand_in(part) for part in item)
        return item

    options = {key: stand_in(v) for key, v in kwargs.items() if key != "memory_format"}
    result = tensors_in([func(*(stand_in(arg) for arg in args), **options)])[0]
    return float(abs(result.item()))
