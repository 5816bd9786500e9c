"""Outputs as they are, compared: tensors, numbers, masks, None, strings, in any structure."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.structures import leaves_in, tensors_in

ROUNDING = 1e-2
"""Least spread of outputs as a fraction of the largest: below it rounding is all that is seen."""


@dataclass(frozen=True)
class Difference:
    """How far the outputs of two networks are apart.

    Args:
        absolute: Largest absolute difference over all outputs.
        relative: The largest over the outputs, each as a fraction of its standard deviation.
        layer: Layer inside that made them; empty for the outputs of the networks.
    """

    absolute: float
    relative: float
    layer: str = ""


def difference(expected: Any, got: Any) -> Difference:
    """Compare the outputs of two networks.

    Floating-point numbers are subtracted. Masks and whole numbers, which rounding can turn over,
    must agree in shape, and differ by 1 where more than a hundredth of them is another. What is
    neither is not compared.

    Raises:
        ValueError: If the outputs differ in structure, type or shape.
    """
    first, second = list(leaves_in(expected)), list(leaves_in(got))
    if len(first) != len(second):
        raise ValueError(f"{len(second)} outputs, not {len(first)}")
    found = [_of_leaves(a, b) for a, b in zip(first, second, strict=True)]
    return Difference(
        max((d.absolute for d in found), default=0.0), max((d.relative for d in found), default=0.0)
    )


def is_measurable(item: Any) -> bool:
    """Whether this is a tensor of floating-point numbers, not an empty one."""
    is_number = isinstance(item, Tensor) and (item.is_floating_point() or item.is_complex())
    return is_number and item.numel() > 0


def _of_leaves(expected: Any, got: Any) -> Difference:
    if isinstance(expected, float) and isinstance(got, float):
        return _of_tensors(torch.tensor(expected), torch.tensor(got))
    if isinstance(expected, Tensor) != isinstance(got, Tensor):
        kinds = (type(got).__name__, type(expected).__name__)
        raise ValueError(f"an output of type {kinds[0]}, not {kinds[1]}")
    if not isinstance(expected, Tensor):
        return Difference(0.0, 0.0)
    if expected.shape != got.shape:
        raise ValueError(f"outputs of shape {tuple(got.shape)}, not {tuple(expected.shape)}")
    if is_measurable(expected):
        return _of_tensors(expected, got)
    is_another = int((expected != got).sum()) > max(1, expected.numel() // 100)
    return Difference(float(is_another), float(is_another))


def _of_tensors(expected: Tensor, got: Tensor) -> Difference:
    """Compare entries; infinite ones must be the same."""
    apart = torch.where(expected == got, 0.0, (expected - got).abs()).nan_to_num_(nan=math.inf)
    finite = expected[expected.isfinite()]
    absolute = float(apart.max())
    if not absolute or not len(finite):
        return Difference(absolute, absolute)
    spread = max(float(finite.std(correction=0)), ROUNDING * float(finite.abs().max()))
    return Difference(absolute, absolute / spread if spread else math.inf)


@contextmanager
def recorded(network: nn.Module) -> Iterator[list[tuple[str, Any]]]:
    """Record what every layer with weights makes, inside the `with` block, in order."""
    made: list[tuple[str, Any]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
            made.extend((name, t.detach().clone()) for t in tensors_in(outputs) if is_measurable(t))

        return hook

    layers = [
        (name, module)
        for name, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    handles = [module.register_forward_hook(note(name)) for name, module in layers]
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()


def same_shaped(
    first: Sequence[tuple[str, Tensor]], second: Sequence[tuple[str, Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Pair what the layers of two networks made, where it has one shape in both."""
    pairs = [(a, b) for (n, a), (m, b) in zip(first, second, strict=False) if a.shape == b.shape]
    return [a for a, _ in pairs], [b for _, b in pairs]
