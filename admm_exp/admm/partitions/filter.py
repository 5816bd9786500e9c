"""Filters of one layer, whatever other layers keep."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from admm_exp.admm.partition import Partition


@dataclass(frozen=True)
class Filter(Partition):
    """A unit is one row of the weight: what computes one output.

    References:
        Li et al. 2017, arXiv 1608.08710.
    """

    name = "filter"
    unit = "filters"
    has_comparable_units = True

    def units(self, weight: Tensor) -> Tensor:
        """Lay a weight out as (out, in * kernel places)."""
        return weight.flatten(1)

    def spread(self, kept: Tensor, shape: Sequence[int]) -> Tensor:
        """Shape the kept filters (out, 1, ..)."""
        return kept.view(-1, *(1 for _ in shape[1:]))
