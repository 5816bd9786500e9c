"""What a network costs: parameters, multiply-accumulates, bytes."""

import math
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from admm_exp.pruning.cost.architecture import architecture_of
from admm_exp.pruning.dependency.copying import copied
from admm_exp.pruning.dependency.inputs import call, first_sample, to_device


@dataclass(frozen=True)
class Cost:
    """The size of a network and the work of one forward pass of one sample.

    Attributes:
        params: Scalars of all parameters.
        nonzero_params: Those that are not zero; all of them where the model has no values (meta).
        macs: Multiply-accumulates of convolutions, linear layers and attention, without biases.
        flops: 2 * macs.
        size_bytes: Parameters and buffers as a state dict holds them.
    """

    params: int
    nonzero_params: int
    macs: int
    flops: int
    size_bytes: int


@dataclass(frozen=True)
class _Work:
    """Multiply-accumulates of a network for one sample: all, and by layer."""

    macs: int
    by_layer: Mapping[str, int]


WORKS = 64
"""Counts of one process that are kept: the jobs of a sweep share their dense network."""

_works: dict[Hashable, _Work] = {}


def count_cost(model: nn.Module, example_input: Any) -> Cost:
    """Count parameters, and the operations of one sample's forward pass in eval mode.

    The pass runs on a meta copy, which computes shapes and no numbers; a model that cannot
    (it holds plain tensors, or its path depends on values) runs once on its own device instead.

    Args:
        model: On any device; left as it is.
        example_input: Inputs that the network accepts, on any device; of a batch, only the first
            sample is used.

    Raises:
        Exception: Whatever the model itself raises on this input.
    """
    parameters = list(model.parameters())
    tensors = {
        id(tensor): tensor
        for tensor in model.state_dict(keep_vars=True).values()
        if isinstance(tensor, Tensor)
    }
    macs = _work_of(model, example_input).macs
    return Cost(
        params=sum(parameter.numel() for parameter in parameters),
        nonzero_params=sum(_count_nonzero(parameter) for parameter in parameters),
        macs=macs,
        flops=2 * macs,
        size_bytes=sum(tensor.nbytes for tensor in tensors.values()),
    )


def macs_by_layer(model: nn.Module, example_input: Any) -> dict[str, int]:
    """Count the multiply-accumulates of one sample inside every layer, by the layer's name.

    Args:
        model: On any device; left as it is.
        example_input: Inputs that the network accepts, on any device; of a batch, only the first
            sample is used.
    """
    return dict(_work_of(model, example_input).by_layer)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put networks into evaluation mode inside the `with` block."""
    modes = {module: module.training for model in models for module in model.modules()}
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _work_of(model: nn.Module, inputs: Any) -> _Work:
    """Count what a network does with one sample; once for networks that do the same.

    Counting takes longer than running a small network, and a run asks for the work of the same two
    networks eight times, with other numbers in them.
    """
    sample = first_sample(inputs)
    key = architecture_of(model, sample) if isinstance(sample, Tensor) else None
    if key is not None and key in _works:
        return _works[key]
    work, has_numbers = _counted(model, inputs, sample)
    if key is not None and not has_numbers:  # numbers may have chosen the path
        while len(_works) >= WORKS:
            del _works[next(iter(_works))]
        _works[key] = work
    return work


def _counted(model: nn.Module, inputs: Any, sample: Any) -> tuple[_Work, bool]:
    """Count what a network does; tell whether that took a run with numbers."""
    with suppress(Exception):  # what is wrong with the model itself is raised by the last run
        return _run_counted(without_numbers(model), to_device(sample, "meta")), False
    # The counter hooks gradients, which expanded parameters have none of
    twin = copied(model).requires_grad_(requires_grad=False)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if not isinstance(inputs, Tensor):  # where the batch is may have been guessed wrong
        with suppress(Exception):
            return _run_counted(twin, to_device(sample, device)), True
        sample = inputs
    return _run_counted(twin, to_device(sample, device)), True


def without_numbers(model: nn.Module) -> nn.Module:
    """Copy a network to the meta device, where tensors have shapes and no numbers.

    Parameters that lie in several places, which `.to("meta")` would part, stay one.

    Returns:
        The copy; its parameters ask for no gradient.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return copied(model, {id(tensor): _blank(tensor) for tensor in tensors})


def _blank(tensor: Tensor) -> Tensor:
    blank = torch.empty_like(tensor, device="meta", requires_grad=False)
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(blank, requires_grad=False) if is_parameter else blank


def _run_counted(model: nn.Module, sample: Any) -> _Work:
    with (
        evaluating(model),
        _unfused_attention(),
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        call(model, sample)
    counts, root = counter.get_flop_counts(), type(model).__name__
    by_layer = {
        name: sum(counts.get(f"{root}.{name}", {}).values()) // 2
        for name, _ in model.named_modules()
    }
    return _Work(counter.get_total_flops() // 2, by_layer)


def _count_nonzero(parameter: Tensor) -> int:
    if parameter.is_meta:
        return math.prod(parameter.shape)
    return int(torch.count_nonzero(parameter.detach()))


@contextmanager
def _unfused_attention() -> Iterator[None]:
    # The counter does not know the fused encoder layer of eval mode, nor, before torch 2.15, the
    # fused attention of CPUs.
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
