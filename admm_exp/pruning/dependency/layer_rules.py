"""How channels go through layers: convolution, linear, norms, embedding, recurrence, attention."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import FIXED, zeroed
from admm_exp.pruning.dependency.rows import Rows
from admm_exp.pruning.dependency.size_rules import count_by, made_by_size
from admm_exp.pruning.dependency.standardised_rules import (
    remember_columns,
    standardise,
    standardised,
    tie_scale,
)

FOLDING = tuple(kind.forward for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
"""What runs in layers whose bias can hold constants."""


def linear(
    flow: Flow, func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Follow a linear layer: columns read channels, rows make them."""
    outputs = flow.sketch.product(func, input, weight, bias, axis=-1)
    if not flow.is_parameter(weight):
        parameter, dims = flow.views.get(weight) or (weight, ())
        if dims in ((0, 1), (1, 0)):
            return _linear(flow, input, parameter, bias, outputs, dims)
        return _unknown_weight(flow, [input, weight, bias], outputs)
    return _linear(flow, input, weight, bias, outputs, (0, 1))


def _linear(
    flow: Flow,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    outputs: Tensor,
    dims: tuple[int, int],
) -> Tensor:
    codes = flow.along(input, -1)
    if codes is not None:
        flow.columns(weight, dims[1], codes, can_fold=_has_bias(flow, weight))
    made = made_by(flow, weight, dims[0], bias)
    flow.mark(outputs, made.view([1] * (outputs.dim() - 1) + [-1]))
    return outputs


def convolution(
    flow: Flow,
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Follow a convolution of any dimension; depthwise ones pass channels on."""
    rest = (bias, stride, padding, dilation, groups)
    outputs = flow.sketch.product(func, input, weight, *rest, axis=1 - weight.dim(), groups=groups)
    if (known := standardised(flow, weight)) is not None:
        remember_columns(flow, flow.along(input, 1 - weight.dim()), groups)
        _convolved(flow, input, outputs, known.weight, bias, (groups, False), is_transposed=False)
        return tie_scale(flow, outputs, known)
    is_padded = padding != "valid" and (bool(padding) if isinstance(padding, int) else any(padding))
    can_fold = not is_padded and _has_bias(flow, weight)
    blocks = (groups, can_fold)
    return _convolved(flow, input, outputs, weight, bias, blocks, is_transposed=False)


def transposed_convolution(
    flow: Flow,
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Follow a transposed convolution, whose output channels are dimension 1 of the weight."""
    outputs = func(input, weight, bias, stride, padding, output_padding, groups, dilation)
    return _convolved(flow, input, outputs, weight, bias, (groups, False), is_transposed=True)


def _has_bias(flow: Flow, weight: Tensor) -> bool:
    """Whether torch's own layer, which adds a bias and nothing else, runs with its own weight."""
    module: Any = flow.model.get_submodule(flow.running[-1])
    runs_as_written = type(module).forward in FOLDING
    return runs_as_written and getattr(module, "weight", None) is weight


def _convolved(
    flow: Flow,
    inputs: Tensor,
    outputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    blocks: tuple[int, bool],
    is_transposed: bool,
) -> Tensor:
    axis, (groups, can_fold) = 1 - weight.dim(), blocks
    codes = flow.along(inputs, axis)
    n_in, n_out = inputs.shape[axis], outputs.shape[axis]
    if not flow.is_parameter(weight):
        if codes is not None and n_in == n_out == groups and flow.codes(weight) is None:
            return _filtered(flow, outputs, codes, weight, bias, groups, axis)
        return _unknown_weight(flow, [inputs, weight, bias], outputs)
    if codes is None:
        codes = torch.full((n_in,), FIXED)
    if 1 < groups == n_in:
        count_by(flow, groups, codes)
    if 1 < groups == n_in and (n_out == n_in or not is_transposed):
        made = made_by(flow, weight, 0, bias, codes.repeat_interleave(n_out // n_in))
    elif groups > 1 and is_transposed:
        flow.columns(weight, 0, codes)
        made = made_by(flow, weight, 1, None).repeat(groups)  # every block has the same columns
        flow.blocks.append((codes, groups, flow.here))
        if bias is not None and flow.is_parameter(bias):
            made = flow.channels(bias, 0, made)
    else:
        flow.columns(weight, 0 if is_transposed else 1, codes, groups, can_fold=can_fold)
        made = made_by(flow, weight, 1 if is_transposed else 0, bias)
        if groups > 1:
            flow.blocks += [(codes, groups, flow.here), (made, groups, flow.here)]
    flow.mark(outputs, made.view([1] * (outputs.dim() + axis) + [-1] + [1] * (-axis - 1)))
    return outputs


def _filtered(
    flow: Flow,
    outputs: Tensor,
    codes: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    axis: int,
) -> Tensor:
    """Follow a constant filter for every channel, as blur pools have it."""
    buffer = flow.buffers.place(weight)
    if buffer is not None and len(weight) == len(codes):
        flow.add_rows(Rows(*buffer, 0, zeroed(codes), False))
    made_by_size(flow, weight, codes, dim=0)
    count_by(flow, groups, codes)
    if bias is not None and flow.is_parameter(bias):
        codes = flow.channels(bias, 0, codes)
    elif bias is not None:
        codes = flow.shift(codes, flow.here)
    flow.mark(outputs, codes.view([1] * (outputs.dim() + axis) + [-1] + [1] * (-axis - 1)))
    return outputs


def batch_norm(
    flow: Flow,
    func: Any,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Follow a batch norm: gamma, beta and running statistics belong to the channel."""
    is_batch = running_mean is None
    outputs = func(input, running_mean, running_var, weight, bias, is_batch, 0.0, eps)
    if is_batch and standardise(flow, input, outputs, weight, bias):
        return outputs
    return _channel_norm(flow, input, outputs, weight, bias, running_mean is not None)


def instance_norm(
    flow: Flow,
    func: Any,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Follow an instance norm, which looks at one channel at a time."""
    outputs = func(input, running_mean, running_var, weight, bias, running_mean is None, 0.0, eps)
    return _channel_norm(flow, input, outputs, weight, bias, running_mean is not None)


def _channel_norm(
    flow: Flow,
    inputs: Tensor,
    outputs: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    has_statistics: bool,
) -> Tensor:
    codes = flow.along(inputs, 1)
    if codes is None:
        return outputs
    for parameter in (weight, bias):
        if parameter is not None and flow.is_parameter(parameter):
            codes = flow.channels(parameter, 0, codes)
    layer = flow.running[-1]
    module: Any = flow.model.get_submodule(layer)
    for key in ("running_mean", "running_var"):
        if has_statistics and getattr(module, key, None) is not None:
            flow.add_rows(Rows(layer, key, 0, zeroed(codes), False))
    if weight is None and has_statistics:
        codes = flow.shift(codes, flow.here)  # what its statistics make of zero
    elif weight is not None:
        codes = zeroed(codes)
    if not has_statistics and weight is None and hasattr(module, "num_features"):
        flow.add_rows(Rows(layer, "num_features", 0, zeroed(codes), False))
    flow.mark(outputs, codes.view([1, -1] + [1] * (outputs.dim() - 2)))
    return outputs


def embedding(
    flow: Flow, func: Any, input: Tensor, weight: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """Follow an embedding, whose channels are the columns of its table."""
    outputs = func(input, weight, *args, **kwargs)
    if flow.is_parameter(weight):
        codes = made_by(flow, weight, 1, None)
        flow.mark(outputs, codes.view([1] * (outputs.dim() - 1) + [-1]))
        return outputs
    return _unknown_weight(flow, [weight], outputs)


def dropout(flow: Flow, func: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Let everything through: what is dropped by chance is not what is looked for."""
    return input


def pad(
    flow: Flow,
    func: Any,
    input: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Tensor:
    """Follow padding in any mode, so long as no channels are added."""
    outputs = func(input, pad, mode, value)
    codes = flow.codes(input)
    if codes is None:
        return outputs
    padded = [input.dim() - 1 - i // 2 for i, amount in enumerate(pad) if amount]
    if any(codes.shape[dim] > 1 for dim in padded) and mode == "constant" and not value:
        amounts = [n if codes.shape[-1 - i // 2] > 1 else 0 for i, n in enumerate(pad)]
        flow.mark(outputs, torch.nn.functional.pad(codes, amounts, value=FIXED))
        return outputs
    if any(codes.shape[dim] > 1 for dim in padded):
        flow.keep(codes, f"{flow.here} pads its channels")
        flow.mark(outputs, None)
        return outputs
    if mode == "constant" and value:
        codes = flow.shift(codes, f"the padding of {flow.here}")
    flow.mark(outputs, codes)
    return outputs


def _unknown_weight(flow: Flow, given: Sequence[Tensor | None], outputs: Tensor) -> Tensor:
    what = f"{flow.here} computes its weight from other parameters"
    flow.keep_all(given, what)
    reason = flow.at_line(what)
    flow.mark(outputs, flow.labels.fixed(reason).view([1] * outputs.dim()))
    return outputs


def made_by(
    flow: Flow, weight: Tensor, dim: int, bias: Tensor | None, codes: Tensor | None = None
) -> Tensor:
    """Note what a weight and its bias make.

    Returns:
        (n,) codes of the channels: `codes`, or new ones.
    """
    made = flow.channels(weight, dim, codes)
    flow.produces(weight, dim, made)
    if bias is None:
        return made
    if flow.is_parameter(bias):
        return flow.channels(bias, 0, made)
    known = flow.codes(bias)
    if known is None:
        known = flow.labels.fixed(flow.at_line(f"{flow.here} adds a constant"))
    return flow.labels.unite(made, known).expand(len(made))
