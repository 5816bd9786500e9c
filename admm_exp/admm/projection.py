"""Which units stay: projection of theta_g on S_g = {at most k_g non-zero units}."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from admm_exp.admm.energies import Energies, channel_energies, turned_energies
from admm_exp.admm.groups import (
    ChannelGroup,
    Units,
    of_units,
    row_masks,
    row_matrix,
    spread,
    unit_energies,
    unit_matrix,
)
from admm_exp.admm.metrics import Metric, adds_up, ranks_by_energy
from admm_exp.admm.mixture import pieces_along


class NotANumberError(ValueError):
    """The weights hold NaN, so that their units cannot be ranked."""


class Constraint(Protocol):
    """A set of sparse weights: where W may be non-zero, and which such place is the best."""

    @property
    def groups(self) -> Sequence[Units]:
        """Groups of units."""

    @property
    def metric(self) -> Metric:
        """Score of the units."""

    def select(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Choose the support: (n_units,) bool per group of units, True = kept."""

    def unit_matrices(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Lay the units out: (n_units, p) per group, one row a unit; may alias the weights."""

    def energies(self, weights: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Sum the squares of every unit: (n_units,) per group."""

    def energies_with(
        self,
        weights: Sequence[Tensor],
        targets: Sequence[Tensor],
        turned_at: Sequence[Tensor] | None = None,
    ) -> list[Energies]:
        """Sum the squares of W, T and W - T of every unit, one record a group.

        Turned T may be scored in passing, if the metric adds up.

        Args:
            weights: W.
            targets: T, float32.
            turned_at: (n_units,) bool per group: in the same pass T becomes W on these units and
                T - W on the others; None leaves T as it is.
        """

    def spread(self, weights: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        """Spread a value of every unit over the weights: broadcastable, to be read only."""

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
    return best_of([scores], [n_kept], [n_blocks])[0]


def best_units(scores: Iterable[Tensor], groups: Sequence[Units]) -> tuple[Tensor, ...]:
    """Mark the best units of every group, as `keep_best` does, with one read from the device.

    Args:
        scores: (n_units,) per group, higher is better.
        groups: Groups of units.

    Raises:
        NotANumberError: If a score is not a number.
    """
    found = list(scores)
    return best_of(found, [g.n_kept for g in groups], [g.n_blocks for g in groups])


def best_of(
    scores: Sequence[Tensor], n_kept: Sequence[int], n_blocks: Sequence[int]
) -> tuple[Tensor, ...]:
    """Mark the best units of several lists.

    Raises:
        NotANumberError: If a score is not a number.
    """
    if scores and bool(torch.stack([own.isnan().any() for own in scores]).any()):
        raise NotANumberError("the score of a unit is not a number: the weights hold NaN")
    return tuple(map(_best, scores, n_kept, n_blocks))


def _best(scores: Tensor, n_kept: int, n_blocks: int) -> Tensor:
    blocks, n_best = scores.view(n_blocks, -1), n_kept // n_blocks
    edge = blocks.topk(n_best, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    if scores.is_cpu and int((best := blocks >= edge).count_nonzero()) == n_kept:
        return best.view(-1)  # no ties, which a GPU is not asked about
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
        return best_units(self._scores(weights), self.groups)

    def _scores(self, weights: Sequence[Tensor]) -> Iterable[Tensor]:
        if ranks_by_energy(self.metric):
            return self.energies(weights)
        if adds_up(self.metric):
            return self._sums(weights)
        thetas = self.unit_matrices(weights)
        return (self.metric(theta, group) for theta, group in zip(thetas, self.groups, strict=True))

    def _sums(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Add up the scores of what the members hold, without laying the units out."""
        for group in self.groups:
            parts = []
            for member in group.members:
                pieces = pieces_along(weights, member.weight, member.dim)
                rows = [self.metric(row_matrix(piece, member.dim), group) for piece in pieces]
                parts.append(of_units(torch.cat(rows), member))
            yield torch.stack(parts).sum(dim=0)

    def energies(self, weights: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Sum the squares of every unit: (n_units,) per group."""
        return unit_energies(weights, self.groups)

    def energies_with(
        self,
        weights: Sequence[Tensor],
        targets: Sequence[Tensor],
        turned_at: Sequence[Tensor] | None = None,
    ) -> list[Energies]:
        """Sum the squares of W, T and W - T of every unit, and turn T if asked to."""
        if turned_at is None:
            return list(channel_energies(weights, targets, self.groups))
        is_w = self.spread(targets, [own.float() for own in turned_at])
        metric = self.metric if adds_up(self.metric) else None
        return list(turned_energies(weights, targets, self.groups, is_w, metric))

    def spread(self, weights: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        """Spread a value of every unit over the weights: broadcastable, to be read only."""
        return spread(weights, self.groups, values)

    def unit_matrices(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Lay the units out: (n_units, p) per group, one row a unit; may alias the weights."""
        return (unit_matrix(weights, group) for group in self.groups)

    def masks(self, weights: Sequence[Tensor], support: Sequence[Tensor]) -> list[Tensor]:
        """Spread a support over the weights: broadcastable bool masks, True = kept."""
        return row_masks(weights, self.groups, support)
