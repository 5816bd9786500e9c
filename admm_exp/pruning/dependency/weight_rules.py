"""How channels go through parameters used as weights outside of torch's own layers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.layer_rules import made_by
from admm_exp.pruning.dependency.size_rules import starts_from

Source = tuple[Tensor, tuple[int | None, ...]]
"""A parameter, and which of its dimensions every dimension of a view of it is."""


def source_of(flow: Flow, tensor: Any) -> Source | None:
    """Find the parameter that a tensor is, or is a turned view of."""
    if not isinstance(tensor, Tensor):
        return None
    if flow.is_parameter(tensor):
        return tensor, tuple(range(tensor.dim()))
    return flow.views.get(tensor)


def note_view(flow: Flow, name: str, args: Sequence[Any], outputs: Any) -> None:
    """Note that an operation turned a parameter, or repeated it in front."""
    source = source_of(flow, args[0]) if args else None
    if source is None or not isinstance(outputs, Tensor):
        return
    parameter, dims = source
    turned = _turned(name, args, outputs, dims)
    if turned is not None:
        flow.views[outputs] = (parameter, turned)


def note_constant(flow: Flow, name: str, args: Sequence[Any], outputs: Any) -> None:
    """Note that an operation turned a buffer, or took a part of it along other dimensions."""
    if not (args and isinstance(args[0], Tensor) and isinstance(outputs, Tensor)):
        return
    source = flow.constant(args[0])
    if source is None:
        return
    place, dims = source
    turned = _turned(name, args, outputs, dims)
    if name == "slice":
        is_same = [a == b for a, b in zip(outputs.shape, args[0].shape, strict=True)]
        turned = tuple(dim if same else None for dim, same in zip(dims, is_same, strict=True))
    elif name == "select":
        turned = tuple(dim for i, dim in enumerate(dims) if i != args[1] % len(dims))
    if turned is not None:
        flow.constants[outputs] = (place, turned)


def _turned(
    name: str, args: Sequence[Any], outputs: Tensor, dims: tuple[int | None, ...]
) -> tuple[int | None, ...] | None:
    """Say which dimension of the original every dimension of a view is, or None."""
    if name in ("t", "transpose", "permute"):
        order = list(range(len(dims)))
        if name == "permute":
            order = [d % len(dims) for d in args[1]]
        elif len(dims) > 1:
            a, b = (0, 1) if name == "t" else (args[1], args[2])
            order[a], order[b] = order[b], order[a]
        return tuple(dims[d] for d in order)
    if name == "expand":
        sizes = (*[0] * (outputs.dim() - len(dims)), *args[0].shape)
        padded = (*[None] * (outputs.dim() - len(dims)), *dims)
        same = (a == b for a, b in zip(outputs.shape, sizes, strict=True))
        return tuple(dim if is_same else None for dim, is_same in zip(padded, same, strict=True))
    if name in ("unsqueeze", "squeeze", "view", "_unsafe_view", "reshape"):
        kept = [(n, dim) for n, dim in zip(args[0].shape, dims, strict=True) if n > 1]
        if [n for n, _ in kept] == [n for n in outputs.shape if n > 1]:
            rest = iter(dim for _, dim in kept)
            return tuple(next(rest) if n > 1 else None for n in outputs.shape)
    return dims if name in ("detach", "alias", "_to_copy", "clone", "contiguous") else None


def product(flow: Flow, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor | None:
    """Follow a matrix product with a parameter: it reads and makes channels as a linear layer.

    Args:
        flow: Where it is noted.
        a: (..., i, k) features or parameter.
        b: (..., k, j) likewise.
        bias: (j,) added to the product, or None.

    Returns:
        Codes of the product, or None if neither is a parameter.
    """
    for weight, given, read, make in ((b, a, -2, -1), (a, b, -1, -2)):
        source = source_of(flow, weight)
        if source is None or source_of(flow, given) is not None:
            continue
        parameter, dims = source
        column, row = dims[read], dims[make]
        if column is None or row is None or (make == -2 and bias is not None):
            continue
        codes = flow.along(given, -1 if make == -1 else -2)
        if codes is not None:
            flow.columns(parameter, column, codes)
        made = made_by(flow, parameter, row, bias)
        shape = [1] * given.dim()
        shape[make] = -1
        return made.view(shape)
    return None


def cell(gates: int, flow: Flow, func: Any, input: Tensor, hx: Any, *parameters: Any) -> Any:
    """Follow LSTMCell, GRUCell and RNNCell: a unit is one row of every gate."""
    outputs = func(input, hx, *parameters)
    w_ih, w_hh, *biases = parameters
    if not (flow.is_parameter(w_ih) and flow.is_parameter(w_hh)):
        flow.keep_all([input, *parameters], f"{flow.here} computes its weight from others")
        return outputs
    units = flow.channels(w_ih, 0)[: len(w_ih) // gates]
    flow.produces(w_ih, 0, units)
    read = flow.along(input, -1)
    if read is not None:
        flow.columns(w_ih, 1, read)
    flow.columns(w_hh, 1, units)
    for parameter in (w_ih, w_hh, *biases):
        if parameter is not None:
            flow.channels(parameter, 0, units.repeat(gates))
    for state in [hx] if isinstance(hx, Tensor) else hx:
        starts_from(flow, state, units)
    for after in [outputs] if isinstance(outputs, Tensor) else outputs:
        flow.mark(after, units.view([1] * (after.dim() - 1) + [-1]))
    return outputs
