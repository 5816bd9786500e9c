"""How channels go through tensor operations: element-wise, moving, reducing, contracting."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from admm_exp.pruning.dependency.complex_rules import COMPLEX
from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.index_rules import INDEXED
from admm_exp.pruning.dependency.labels import compact, is_shifted, shifted, varying, zeroed
from admm_exp.pruning.dependency.norm_rules import moment
from admm_exp.pruning.dependency.norms import MOMENTS
from admm_exp.pruning.dependency.pointwise_rules import pointwise
from admm_exp.pruning.dependency.region_rules import folded, put, sampled, unfolded
from admm_exp.pruning.dependency.shape_rules import join, move, rectangular, tied_parts
from admm_exp.pruning.dependency.standardised_rules import note_rows
from admm_exp.pruning.dependency.structures import tensors_in
from admm_exp.pruning.dependency.weight_rules import note_constant, note_view, product

SAME = {"clone", "detach", "alias", "_to_copy", "lift_fresh", "contiguous", "zero_", "zeros_like"}
SAME |= {"_conj", "_neg_view", "resolve_conj"}
LIKE = {
    "ones_like",
    "full_like",
    "rand_like",
    "randn_like",
    "bernoulli",
    "fill_",
    "uniform_",
    "normal_",
    "bernoulli_",
    "empty_like",
}
FACTORIES = {"new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided"}
POINTWISE = {
    "hardswish",
    "hardswish_",
    "masked_fill",
    "masked_fill_",
    "_prelu_kernel",
    "mish",
    "dropout",
    "native_dropout",
    "hardsigmoid",
    "hardsigmoid_",
    "hardtanh",
    "hardtanh_",
    "silu",
    "silu_",
    "log_sigmoid_forward",
    "copy_",
    "celu_",
    "rrelu_with_noise",
    "complex",
    "polar",
}
MOVES = {
    "view",
    "_unsafe_view",
    "reshape",
    "_reshape_alias",
    "permute",
    "transpose",
    "t",
    "expand",
    "unsqueeze",
    "squeeze",
    "unbind",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "unsafe_split",
    "unsafe_split_with_sizes",
    "flip",
    "roll",
    "unfold",
    "index",
    "index_select",
    "repeat",
    "pixel_unshuffle",
    "pixel_shuffle",
    "channel_shuffle",
}
SPATIAL = (
    "max_pool",
    "avg_pool",
    "_adaptive_avg_pool",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "upsample",
    "_upsample",
    "reflection_pad",
    "replication_pad",
    "fractional_max_pool",
    "grid_sampler",
    "max_unpool",
)
REDUCTIONS = {"sum", "amax", "amin", "max", "min", "median", "linalg_vector_norm", "norm"}
WITHIN = {"_softmax", "_log_softmax", "cumsum", "cumprod", "sort", "topk"}


def operation(flow: Flow, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation and give its results their codes."""
    name = func._overloadpacket.__name__
    outputs = func(*args, **kwargs)
    if note_rows(flow, name, args, outputs):
        return outputs
    known = {id(t): c for t in tensors_in([args, kwargs]) if (c := flow.codes(t)) is not None}
    if not known or name in FACTORIES:
        note_constant(flow, name, args, outputs)
        return outputs
    note_view(flow, name, args, outputs)
    rule = _rule_of(name, func)
    if rule is None:
        flow.keep_all(
            tensors_in([args, kwargs]),
            f"its channels cannot be followed through {name} in {flow.here}",
        )
        _mark(flow, outputs, None)
    else:
        _mark(flow, outputs, rule(flow, func, args, kwargs, outputs))
    return outputs


def contract(flow: Flow, a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Follow a matrix product of (..., i, k) and (..., k, j).

    Returns:
        Codes of (..., i, j), or None where no unit leaves the whole entry zero.
    """
    if a is not None and b is not None and a.shape[-1] == 1 < b.shape[-2] and flow.is_bare(b):
        flow.labels.keep(b, f"{flow.here} multiplies it with what loses nothing there")
        b = None
    if a is not None and b is not None and b.shape[-2] == 1 < a.shape[-1] and flow.is_bare(a):
        flow.labels.keep(a, f"{flow.here} multiplies it with what loses nothing there")
        a = None
    if (a is not None and a.shape[-1] > 1) or (b is not None and b.shape[-2] > 1):
        if a is not None and b is not None and (whole := _whole(flow, a, b)) is not None:
            return whole
        if a is None or b is None:
            keep = a if a is not None else b
            assert keep is not None
            flow.keep(keep, f"{flow.here} multiplies it with what loses nothing there")
            return None
        first, second = flow.tie_but(a, -1).flatten(), flow.tie_but(b, -2).flatten()
        inner = flow.labels.unite(zeroed(first), zeroed(second))
        is_moved = is_shifted(first) & is_shifted(second)
        flow.require_zero(torch.where(is_moved, shifted(inner), inner))
        return None
    if a is None or b is None:
        return a if b is None else b
    for one, other, own in ((a, b, -1), (b, a, -2)):
        if one.numel() == 1 < other.numel() == other.shape[own]:  # weights of all channels
            flow.keep(one, f"{flow.here} weighs other channels by it")
            return other
    if varying(a) and varying(b) and not set(varying(a)) & set(varying(b)):
        small, large = sorted((a, b), key=torch.numel)
        flow.keep(small, f"{flow.here} multiplies each of it with each of others")
        return large
    outer = flow.labels.unite(zeroed(a), zeroed(b))
    outer = torch.where(is_shifted(a) & is_shifted(b), shifted(outer), outer)
    return rectangular(flow, compact(outer))


def _whole(flow: Flow, a: Tensor, b: Tensor) -> Tensor | None:
    """Follow heads, of which one or the other factor knows no widths: the widths stay."""
    n = a.dim()
    for one, other, inner in ((a, b, n - 2), (b, a, n - 1)):
        own = varying(one)
        if own and max(own) < n - 2 and varying(other) == [inner]:
            flow.keep(other, f"{flow.here} multiplies whole heads with it")
            return one
    return None


def _rule_of(name: str, func: Any) -> Callable[..., Any] | None:
    rules: tuple[tuple[bool, Callable[..., Any]], ...] = (
        (name in SAME, _same),
        (name in LIKE, _like),
        (name in MOVES, move),
        (name in ("cat", "stack"), join),
        (name in POINTWISE or torch.Tag.pointwise in func.tags, pointwise),
        (name in MOMENTS, moment),
        (name in REDUCTIONS, _reduce),
        (name in WITHIN, _within),
        (name.startswith(SPATIAL), _spatial),
        (name == "as_strided_", _restride),
        (name in ("mm", "bmm", "addmm", "baddbmm"), _matrix_product),
        (name == "glu", _glu),
        (name == "im2col", unfolded),
        (name == "col2im", folded),
        (name in ("roi_align", "roi_pool"), sampled),
        (name in ("index_put", "index_put_"), put),
        (name in INDEXED, INDEXED.get(name, put)),
        (name in COMPLEX, COMPLEX.get(name, put)),
    )
    return next((rule for applies, rule in rules if applies), None)


def _mark(flow: Flow, outputs: Any, codes: Any) -> None:
    tensors = tensors_in([outputs])
    several = list(codes) if isinstance(codes, list) else [codes] * len(tensors)
    for tensor, own in zip(tensors, several, strict=True):
        flow.mark(tensor, own if own is None or own.dim() == tensor.dim() else None)


def _same(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    codes = flow.codes(args[0])
    is_zero = func._overloadpacket.__name__ in ("zero_", "zeros_like")
    return codes if codes is None or not is_zero else zeroed(codes)


def _like(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    codes = flow.codes(args[0])
    return None if codes is None else flow.shift(codes, flow.here)


def _reduce(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    name = func._overloadpacket.__name__
    tensor, out = args[0], tensors_in([outputs])[0]
    codes = flow.codes(tensor)
    place = 2 if name in ("linalg_vector_norm", "norm") else 1
    dims = args[place] if len(args) > place else kwargs.get("dim")
    listed = [dims] if isinstance(dims, int) else dims
    reduced = {d % tensor.dim() for d in listed} if listed else set(range(tensor.dim()))
    if codes is None or not isinstance(listed, list | tuple | None):
        return None
    if any(codes.shape[d] > 1 for d in reduced):
        if name in ("sum", "linalg_vector_norm", "norm"):  # zeros add nothing
            flow.require_zero(codes)
        else:
            flow.keep(codes, f"{flow.here} takes the {name} over its channels")
        return None
    if out.dim() == tensor.dim():
        return codes
    return codes.squeeze(tuple(reduced)) if out.dim() == tensor.dim() - len(reduced) else None


def _within(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    codes = flow.codes(args[0])
    assert codes is not None
    place = 2 if func._overloadpacket.__name__ == "topk" else 1
    given = args[place] if len(args) > place else -1
    dim = kwargs.get("dim", -1 if isinstance(given, bool) else given)
    if codes.shape[dim] > 1:
        flow.keep(codes, f"{flow.here} mixes its channels")
        return None
    return flow.shift(codes, f"{func._overloadpacket.__name__.strip('_')} in {flow.here}")


def _spatial(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    codes = flow.codes(args[0])
    name = func._overloadpacket.__name__
    n_spatial = next(n for n in (1, 2, 3) if f"{n}d" in name)
    if codes is None:
        flow.keep_all(tensors_in(args[1:]), f"{flow.here} samples by it")
        return None
    for dim in range(codes.dim() - n_spatial, codes.dim()):
        if codes.shape[dim] > 1:
            codes = flow.tie_but(codes, codes.dim() - n_spatial - 1)
    return codes


def _restride(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Pooling to one pixel in channels last rewrites the strides and moves no entry."""
    codes = flow.codes(args[0])
    is_pixel = outputs.dim() == 4 and outputs.shape[2:] == (1, 1)
    if codes is None or (is_pixel and outputs.is_contiguous() and codes.dim() == 4):
        return codes
    flow.keep(codes, f"its channels cannot be followed through as_strided_ in {flow.here}")
    return None


def _matrix_product(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    has_sum = func._overloadpacket.__name__ in ("addmm", "baddbmm")
    a, b = args[1:3] if has_sum else args[:2]
    made = product(flow, a, b, args[0] if has_sum else None)
    if made is not None:
        return made
    result = contract(flow, flow.codes(a), flow.codes(b))
    if has_sum:
        flow.keep_all([args[0]], f"{flow.here} adds it to a matrix product")
        if result is not None:
            flow.keep(result, f"{flow.here} adds something to it")
    return result


def _glu(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    codes = flow.codes(args[0])
    assert codes is not None
    dim = args[1] if len(args) > 1 else -1
    if codes.shape[dim] == 1:
        return codes
    half = args[0].shape[dim] // 2
    return tied_parts(flow, codes, dim % codes.dim(), half).narrow(dim, 0, half)
