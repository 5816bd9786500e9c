"""How channels go through operations that move entries and compute nothing."""

from collections.abc import Sequence
from math import gcd
from typing import Any

import torch
from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import FIXED, compact, varying
from admm_exp.pruning.dependency.tables import rows_tied


def move(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Move the codes as the operation moves entries; reshapes tie what they take apart."""
    name = func._overloadpacket.__name__
    tensor = args[0]
    codes = flow.codes(tensor)
    if codes is None:
        return None
    codes = _selectable(flow, name, codes, args, outputs)
    if codes is None:
        return None
    codes = codes.expand(tensor.shape)
    if name in ("view", "_unsafe_view", "_reshape_alias", "reshape"):
        reshaped = compact(codes.reshape(outputs.shape))
        reshaped = rectangular(flow, reshaped, _open_dim(args[1], reshaped), is_reshape=True)
        flow.widths.counted(reshaped)
        return reshaped
    moved: Any = func(codes, *args[1:], **kwargs)
    if isinstance(moved, Tensor):
        dim = -3 if name == "pixel_shuffle" else None
        return rectangular(flow, compact(moved), dim, is_choice=bool(_chosen_dims(name, args)))
    return [rectangular(flow, compact(part), is_choice=True) for part in moved]


def _open_dim(sizes: Sequence[int] | torch.dtype, codes: Tensor) -> int | None:
    """Find the size that a reshape leaves open (-1), if channels differ along it, or None.

    Code that writes `view(n, t, -1, head_dim)` works with any number of heads, and code that
    writes `view(n, t, heads, -1)` with any width of a head.
    """
    if isinstance(sizes, torch.dtype) or -1 not in sizes:
        return None
    dim = list(sizes).index(-1)
    return dim if codes.shape[dim] > 1 else None


def _selectable(flow: Flow, name: str, codes: Tensor, args: Any, outputs: Any) -> Tensor | None:
    """Tie channels that are chosen by their position, or keep them and follow them no more."""
    tensor = args[0]
    dims = [d % tensor.dim() for d in _chosen_dims(name, args)]
    if all(codes.shape[dim] <= 1 for dim in dims):  # 0: nothing was found
        return codes
    if any(dim not in dims for dim in varying(codes)) and flow.is_bare(codes):
        return rows_tied(codes, dims, flow.labels)
    dim, size = next(d for d in dims if codes.shape[d] > 1), None
    if name == "channel_shuffle":
        size = tensor.shape[1] // args[1]
    elif "split" in name:
        size = gcd(*(part.shape[dim] for part in outputs))
    elif name == "slice":
        size = _slice_size(args, tensor.shape[dim], outputs.shape[dim])
    if size is None:
        flow.keep(codes, f"{flow.here} picks its channels by position")
        return None
    return codes if size == tensor.shape[dim] else tied_parts(flow, codes, dim, size)


def _chosen_dims(name: str, args: Any) -> Sequence[int]:
    """List the dimensions along which an operation depends on positions."""
    if name in ("select", "slice", "unbind", "index_select", "unfold"):
        return [args[1] if len(args) > 1 else 0]
    if "split" in name:
        return [args[2] if len(args) > 2 else 0]
    if name == "roll":
        return args[2] if len(args) > 2 and args[2] else [0]
    if name == "index":
        return [d for d, index in enumerate(args[1]) if index is not None]
    return [1] if name == "channel_shuffle" else []


def _slice_size(args: Any, before: int, after: int) -> int | None:
    """Size of equal parts that a slice consists of, or None."""
    start = args[2] if len(args) > 2 and args[2] is not None else 0
    step = args[4] if len(args) > 4 else 1
    part = gcd(start % before, after, before)
    return part if step == 1 and (part > 1 or part == after) else None


def tied_parts(flow: Flow, codes: Tensor, dim: int, size: int) -> Tensor:
    """Tie the channels at the same place of equal parts, so that all parts shrink alike."""
    parts = codes.unflatten(dim, (-1, size))
    flow.takes_apart(codes)
    first = parts.narrow(dim, 0, 1)
    return flow.labels.unite(parts, first).flatten(dim, dim + 1)


def rectangular(
    flow: Flow,
    codes: Tensor,
    dim: int | None = None,
    *,
    is_reshape: bool = False,
    is_choice: bool = False,
) -> Tensor:
    """Tie channels that are taken apart: they stay different along one dimension only.

    Args:
        flow: Where it is noted.
        codes: Of the result.
        dim: The dimension; the longest along which they differ if None.
        is_reshape: Whether code says the sizes, so that another dimension may be tried.
        is_choice: Whether rows were chosen by their position.
    """
    dims = varying(codes)
    if len(dims) < 2 or (is_choice and flow.is_bare(codes)):  # rows of a table, no channels yet
        return codes
    flow.takes_apart(codes)
    longest = max(dims, key=lambda d: (codes.shape[d], -d))
    usual = longest if dim is None else dim % codes.dim()
    if is_reshape:
        usual = flow.sizes.chosen(codes, dims, usual, flow.running[-1])
    return flow.tie_but(codes, usual)


def join(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Join the codes of all parts; parts that are not followed stay whole."""
    own = [flow.codes(tensor) for tensor in args[0]]
    dims = [dim for codes in own if codes is not None for dim in varying(codes)]
    parts = [
        torch.full(tensor.shape, FIXED) if codes is None else codes.expand(tensor.shape)
        for tensor, codes in zip(args[0], own, strict=True)
    ]
    dim = dims[0] - parts[0].dim() if dims else None
    if dim is not None and func._overloadpacket.__name__ == "stack":
        n = parts[0].dim() + 1  # dimensions in front of the new one move by one
        place = (args[1] if len(args) > 1 else 0) % n
        dim = dims[0] + (place <= dims[0]) - n
    return rectangular(flow, compact(func(parts, *args[1:], **kwargs)), dim)
