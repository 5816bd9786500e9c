"""Single weights, anywhere: non-structured pruning."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from admm_exp.admm.partition import Partition


@dataclass(frozen=True)
class Element(Partition):
    """Every weight is a unit of its own.

    References:
        Zhang et al. 2018, arXiv 1804.03294.
    """

    name = "element"
    unit = "weights"

    def units(self, weight: Tensor) -> Tensor:
        """Lay a weight out as (numel, 1)."""
        return weight.reshape(-1, 1)

    def spread(self, kept: Tensor, shape: Sequence[int]) -> Tensor:
        """Shape the kept weights like the weight."""
        return kept.view(tuple(shape))
