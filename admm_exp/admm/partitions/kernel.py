"""Whole kernels of a convolution: the connection of one input channel to one output channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from admm_exp.admm.partition import Partition


@dataclass(frozen=True)
class Kernel(Partition):
    """A unit is the kernel between one input and one output channel.

    References:
        Mao et al. 2017, arXiv 1705.08922.
    """

    name = "kernel"
    unit = "kernels"

    def obstacle(self, shape: Sequence[int]) -> str | None:
        """Refuse layers whose kernels are single weights."""
        return "its kernels are single weights" if prod(shape[2:]) == 1 else None

    def units(self, weight: Tensor) -> Tensor:
        """Lay a weight out as (out * in, kernel places)."""
        return weight.flatten(2).flatten(0, 1)

    def spread(self, kept: Tensor, shape: Sequence[int]) -> Tensor:
        """Shape the kept kernels (out, in, 1, ..)."""
        return kept.view(*shape[:2], *(1 for _ in shape[2:]))
