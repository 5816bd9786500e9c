"""The same places in every filter of a layer: columns of the matrix of all filters."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from admm_exp.admm.partition import Partition


@dataclass(frozen=True)
class Shape(Partition):
    """A unit is one place (input channel and kernel place) in all filters of the layer.

    References:
        Wen et al. 2016, arXiv 1608.03665 (filter shape); Zhang et al. 2018, arXiv 1807.11091.
    """

    name = "shape"
    unit = "columns"
    has_comparable_units = True

    def units(self, weight: Tensor) -> Tensor:
        """Lay a weight out as (in * kernel places, out)."""
        return weight.flatten(1).T

    def spread(self, kept: Tensor, shape: Sequence[int]) -> Tensor:
        """Shape the kept columns (1, in, *kernel)."""
        return kept.view(1, *shape[1:])
