"""Where a cut network first computes something else than the masked one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.inputs import accepted_form, call
from admm_exp.pruning.dependency.outputs import is_measurable
from admm_exp.pruning.dependency.structures import tensors_in

Made = tuple[str, list[Tensor]]


@torch.no_grad()
def first_difference(
    masked: nn.Module, small: nn.Module, inputs: Any, tolerance: float
) -> str | None:
    """Name the first layer that makes something else in the cut network, or does not run there.

    Args:
        masked: The network with zeros in place of what is removed, in evaluation mode.
        small: The network without it, likewise.
        inputs: What both accept.
        tolerance: Largest difference that rounding explains, as a fraction of the largest entry.

    Returns:
        Name and kind of the layer, or None if no layer whose sizes stay differs.
    """
    expected: list[Made] = []
    got: list[Made] = []
    form = accepted_form(masked, inputs)
    with _watched(small, got) as running:
        try:
            call(small, inputs, form)
        except Exception:  # whatever a cut network fails with
            return named(small, running[-1] if running else "")
    with _watched(masked, expected):
        call(masked, inputs, form)
    for (name, before), (_, after) in zip(expected, got, strict=False):
        if any(_differ(a, b, tolerance) for a, b in zip(before, after, strict=False)):
            return named(small, name)
    return None


def _differ(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.shape != b.shape or not (is_measurable(a) and is_measurable(b)):
        return False
    return bool((a - b).abs().max() > tolerance * (1e-6 + a.abs().max()))


def named(network: nn.Module, name: str) -> str:
    """Name a layer and its kind in a sentence."""
    kind = type(network.get_submodule(name)).__name__
    return f"{name} ({kind})" if name else f"the {kind}"


@contextmanager
def _watched(network: nn.Module, made: list[Made]) -> Iterator[list[str]]:
    """Note what every layer makes, inside the `with` block, and which layers run."""
    running: list[str] = []
    handles = []
    for name, module in network.named_modules():

        def enter(_: Any, __: Any, name: str = name) -> None:
            running.append(name)

        def leave(_: Any, __: Any, outputs: Any, name: str = name) -> None:
            running.pop()
            made.append((name, [tensor.clone() for tensor in tensors_in(outputs)]))

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()
