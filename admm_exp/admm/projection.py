"""Which units stay: projection of theta_g on S_g = {at most k_g non-zero units}."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from admm_exp.admm.groups import ChannelGroup, Units, row_masks, unit_energies, unit_matrix
from admm_exp.admm.metrics import Metric


class NotANumberError(ValueError):
    """The weights hold NaN, so that their units cannot be ranked."""


class Constraint(Protocol):
    """A set of sparse weights: where W may be non-zero, and which such place is the best."""

    @property
    def groups(self) -> Sequence[Units]:
        """Groups of units."""

    def select(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Choose the support: (n_units,) bool per group of units, True = kept."""

    def unit_matrices(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Lay the units out: (n_units, p) per group, one row a unit; may alias the weights."""

    def energies(self, weights: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Sum the squares of every unit: (n_units,) per group."""

    def masks(self, weights: Sequence[Tensor], support: Sequence[Tensor]) -> list[Tensor]:
        """Spread a support over the weights: broadcastable bool masks, True = kept."""


def keep_best(scores: Tensor, n_kept: int, n_blocks: int = 1) -> Tensor:
    """Mark the best units, the same number in every block.

    Ties go to the lower index, so that every process of a distributed run agrees. Linear in the
    number of units: the k-th best score is found without sorting.

    Args:
        scores: (n_units,), higher is better.
        n_kept: Number of units to keep over all blocks.
        n_blocks: Number of equal consecutive blocks.

    Returns:
        (n_units,) bool, True = kept.

    Raises:
        NotANumberError: If a score is not a number.
    """
    if bool(scores.isnan().any()):
        raise NotANumberError("the score of a unit is not a number: the weights hold NaN")
    blocks, n_best = scores.view(n_blocks, -1), n_kept // n_blocks
    edge = blocks.topk(n_best, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    above, tied = blocks > edge, blocks == edge
    n_open = n_best - above.sum(dim=1, keepdim=True)
    return (above | (tied & (tied.cumsum(dim=1) <= n_open))).view(-1)


@dataclass(frozen=True)
class ChannelConstraint:
    """At most k_g non-zero channels in every channel group g, ranked by one metric.

    With `L2Norm` the selection is the exact Euclidean projection (units are disjoint, so dropping
    the smallest sums of squares leaves the nearest point); other metrics are heuristics.

    Args:
        groups: Channel groups; together they cover every constrained weight exactly once.
        metric: Score of the units.
    """

    groups: tuple[ChannelGroup, ...]
    metric: Metric

    def select(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Choose the support: (n_units,) bool per group, True = kept."""
        return tuple(
            keep_best(self.metric(theta, g), g.n_kept, g.n_blocks)
            for theta, g in zip(self.unit_matrices(weights), self.groups, strict=True)
        )

    def energies(self, weights: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Sum the squares of every unit: (n_units,) per group."""
        return unit_energies(weights, self.groups)

    def unit_matrices(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Lay the units out: (n_units, p) per group, one row a unit; may alias the weights."""
        return (unit_matrix(weights, group) for group in self.groups)

    def masks(self, weights: Sequence[Tensor], support: Sequence[Tensor]) -> list[Tensor]:
        """Spread a support over the weights: broadcastable bool masks, True = kept."""
        return row_masks(weights, self.groups, support)
