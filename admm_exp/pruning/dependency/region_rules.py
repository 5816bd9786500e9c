"""How channels go through windows and regions: cut out, laid side by side, written back."""

from typing import Any

import torch
from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import compact
from admm_exp.pruning.dependency.structures import tensors_in


def unfolded(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Windows laid side by side: every channel has one row for every pixel of a window."""
    codes, n = flow.along(args[0], -3), args[0].shape[-3]
    assert codes is not None
    rows = codes.repeat_interleave(outputs.shape[-2] // n)
    return rows.view([1] * (outputs.dim() - 2) + [-1, 1])


def folded(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Windows laid over one another again."""
    codes = flow.along(args[0], -2)
    assert codes is not None
    channels = flow.tie_but(compact(codes.reshape(outputs.shape[-3], -1)), 0).flatten()
    return channels.view([1] * (outputs.dim() - 3) + [-1, 1, 1])


def sampled(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Regions cut out of images, (regions, channels, h, w): channels stay where they are."""
    codes = flow.along(args[0], 1)
    if codes is None:
        flow.keep_all(tensors_in(args[1:]), f"{flow.here} samples by it")
        return None
    return [codes.view(1, -1, 1, 1), None][: len(tensors_in([outputs]))]


def put(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Rows written into others: what is written and what stays are one tensor from now on."""
    tensor, indices, values = args[:3]
    codes, written = flow.codes(tensor), flow.codes(values)
    index = indices[0] if len(indices) == 1 else None
    if index is None or index.dim() > 1 or (codes is not None and codes.shape[0] > 1):
        flow.keep_all([tensor, values], f"{flow.here} writes it into a part of a tensor")
        return None
    if written is not None:
        missing = tensor.dim() - written.dim()
        written = written.reshape((1,) * missing + tuple(written.shape))
        if written.shape[0] > 1:
            flow.keep(written, f"{flow.here} writes it into a part of a tensor")
            return None
    if codes is None or written is None:
        rest = tensor.index_fill(0, _rows(index), 0.0) if codes is None else values
        known = written if codes is None else codes
        assert known is not None
        is_zero = not rest.is_meta and not bool(rest.any())
        return known if is_zero else flow.shift(known, f"what is written in {flow.here}")
    return compact(flow.labels.unite(codes, written))


def _rows(index: Tensor) -> Tensor:
    return index.nonzero().flatten() if index.dtype == torch.bool else index
