"""How channels go through norms and moments across channels, which count the removed ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import zeroed
from admm_exp.pruning.dependency.norms import normalised_dims
from admm_exp.pruning.dependency.rows import Rows
from admm_exp.pruning.dependency.structures import tensors_in


def layer_norm(
    flow: Flow,
    func: Any,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Follow a layer norm: what gamma and beta make zero stays zero, and the norm counts it."""
    outputs = func(input, normalized_shape, weight, bias, *args, **kwargs)
    dims = normalised_dims("layer_norm", (input, normalized_shape), {})
    return _across(flow, "layer_norm", input, outputs, dims, (weight, bias), keeps_zero=False)


def rms_norm(
    flow: Flow,
    func: Any,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Follow a norm by the root mean square, which keeps zeros with or without gamma."""
    outputs = func(input, normalized_shape, weight, *args, **kwargs)
    dims = normalised_dims("rms_norm", (input, normalized_shape), {})
    return _across(flow, "rms_norm", input, outputs, dims, (weight,), keeps_zero=True)


def group_norm(
    flow: Flow,
    func: Any,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Follow a group norm: every group keeps the same count, or is one channel."""
    outputs = func(input, num_groups, weight, bias, *args, **kwargs)
    codes = flow.codes(input)
    if codes is None or codes.shape[1] == 1:
        flow.looks("group_norm", range(1 - input.dim(), 0))
        flow.mark(outputs, codes if codes is None else flow.shift(codes, flow.here))
        return outputs
    channels = flow.along(input, 1)
    assert channels is not None
    affine = [part for part in (weight, bias) if part is not None]
    layer = flow.running[-1]
    if num_groups == input.shape[1]:
        if hasattr(flow.model.get_submodule(layer), "num_groups"):
            flow.add_rows(Rows(layer, "num_groups", 0, zeroed(channels), False))
    else:
        flow.counts("group_norm", 1 - input.dim(), channels)
        if num_groups > 1:
            flow.blocks.append((channels, num_groups, flow.here))
    channels = _scaled(flow, channels, affine, 0, keeps_zero=False)
    flow.mark(outputs, channels.view([1, -1] + [1] * (outputs.dim() - 2)))
    return outputs


def moment(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Follow a mean or variance; across channels it counts those that are removed."""
    name = func._overloadpacket.__name__
    codes = flow.codes(args[0])
    dims = normalised_dims(name, args, kwargs)
    across = [] if codes is None else [d for d in dims if codes.shape[d] > 1]
    flow.looks(name, [d for d in dims if d not in across])
    if codes is None:
        return None
    out = tensors_in([outputs])[0]
    if across:
        if len(across) > 1:
            flow.keep(codes, f"{flow.here} takes the {name} over its channels")
        else:
            flow.counts(name, across[0], codes.flatten())
        return None
    return codes if out.dim() == codes.dim() else codes.squeeze(tuple(dims))


def _across(
    flow: Flow,
    name: str,
    inputs: Tensor,
    outputs: Tensor,
    dims: Sequence[int],
    affine: Sequence[Tensor | None],
    *,
    keeps_zero: bool,
) -> Tensor:
    codes = flow.codes(inputs)
    across = [] if codes is None else [d for d in dims if codes.shape[d] > 1]
    flow.looks(name, [d for d in dims if d not in across])
    if codes is None:
        return outputs
    if not across:
        flow.mark(outputs, codes if keeps_zero else flow.shift(codes, flow.here))
        return outputs
    dim = across[0]
    channels = flow.along(inputs, dim)
    assert channels is not None
    flow.counts(name, dim, channels)
    given = [part for part in affine if part is not None]
    channels = _scaled(flow, channels, given, len(dims) + dim, keeps_zero=keeps_zero)
    flow.mark(outputs, channels.view([1] * (outputs.dim() + dim) + [-1] + [1] * (-dim - 1)))
    return outputs


def _scaled(
    flow: Flow, channels: Tensor, affine: Sequence[Tensor], dim: int, *, keeps_zero: bool
) -> Tensor:
    """Tie gamma and beta to the channels.

    Returns:
        (n,) codes behind the norm, zero where gamma and beta are.
    """
    for parameter in affine:
        if flow.is_parameter(parameter):
            channels = flow.channels(parameter, dim, channels)
        else:
            flow.keep_all([parameter], f"{flow.here} scales by it")
            flow.keep(channels, f"{flow.here} scales by a constant of its width")
    if affine or keeps_zero:
        return zeroed(channels)
    return flow.shift(torch.as_tensor(channels), flow.here, is_constant=False)
