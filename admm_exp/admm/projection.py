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
    unit_parts,
)
from admm_exp.admm.metrics import Metric, PartsMetric, adds_up, ranks_by_energy
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

    def select_signed(
        self, weights: Sequence[Tensor], signs: Sequence[Tensor]
    ) -> tuple[Tensor, ...] | None:
        """Choose the support of weights whose units are yet to be multiplied by signs.

        Args:
            weights: As they are.
            signs: (n_units,) float32 per group of units, 1 or -1.

        Returns:
            As `select`, or None where the metric has to see the products.
        """

    def unit_matrices(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Lay the units out: (n_units, p) per group, one row a unit; may alias the weights."""

    def energies(self, weights: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Sum the squares of every unit: (n_units,) per group."""

    def energies_with(self, weights: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Energies]:
        """Sum the squares of W, T and W - T of every unit, one record a group.

        Args:
            weights: W.
            targets: T, float32.
        """

    def turn_(
        self,
        weights: Sequence[Tensor],
        targets: Sequence[Tensor],
        is_w: Sequence[Tensor],
        squares: Tensor | None = None,
    ) -> tuple[list[Energies], Tensor | None]:
        """Sum up the same, and turn T in the same pass.

        T may be scored in passing, if the metric adds up.

        Args:
            weights: W.
            targets: T, float32: it becomes W on some units and T - W on the others.
            is_w: (n_units,) bool per group, which units.
            squares: What the last call gave, if T is what it left.

        Returns:
            The sums, one record a group, and what can be given to the next call, if anything.
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
    """Mark the best units of several lists, those of the same numbers side by side.

    Raises:
        NotANumberError: If a score is not a number.
    """
    alike: dict[tuple[int, int, int, torch.dtype], list[int]] = {}
    for i, own in enumerate(scores):
        alike.setdefault((len(own), n_kept[i], n_blocks[i], own.dtype), []).append(i)
    lists = [torch.stack([scores[i] for i in places]) for places in alike.values()]
    if lists and bool(torch.stack([own.isnan().any() for own in lists]).any()):
        raise NotANumberError("the score of a unit is not a number: the weights hold NaN")
    best: dict[int, Tensor] = {}
    for ((_, kept, blocks, _), places), own in zip(alike.items(), lists, strict=True):
        best |= zip(places, _best(own, kept, blocks).unbind(), strict=True)
    return tuple(best[i] for i in range(len(scores)))


def _best(scores: Tensor, n_kept: int, n_blocks: int) -> Tensor:
    """Mark the best in every row: (n, n_units) bool."""
    n_best = n_kept // n_blocks
    blocks = scores.view(len(scores) * n_blocks, -1)
    edge = blocks.topk(n_best, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    if scores.is_cpu and int((best := blocks >= edge).count_nonzero()) == n_kept * len(scores):
        return best.view_as(scores)  # no ties, which a GPU is not asked about
    above, tied = blocks > edge, blocks == edge
    n_open = n_best - above.sum(dim=1, keepdim=True)
    return (above | (tied & (tied.cumsum(dim=1) <= n_open))).view_as(scores)


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
        if isinstance(self.metric, PartsMetric):
            return self._of_parts(weights, [None] * len(self.groups))
        thetas = self.unit_matrices(weights)
        return (self.metric(theta, group) for theta, group in zip(thetas, self.groups, strict=True))

    def _of_parts(
        self, weights: Sequence[Tensor], signs: Sequence[Tensor | None]
    ) -> Iterator[Tensor]:
        assert isinstance(self.metric, PartsMetric)
        for group, own in zip(self.groups, signs, strict=True):
            yield self.metric.of_parts(unit_parts(weights, group), own)

    def select_signed(
        self, weights: Sequence[Tensor], signs: Sequence[Tensor]
    ) -> tuple[Tensor, ...] | None:
        """Choose the support of weights whose units are yet to be multiplied by signs."""
        if not isinstance(self.metric, PartsMetric):
            return None
        return best_units(self._of_parts(weights, signs), self.groups)

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

    def energies_with(self, weights: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Energies]:
        """Sum the squares of W, T and W - T of every unit."""
        return list(channel_energies(weights, targets, self.groups))

    def turn_(
        self,
        weights: Sequence[Tensor],
        targets: Sequence[Tensor],
        is_w: Sequence[Tensor],
        squares: Tensor | None = None,
    ) -> tuple[list[Energies], Tensor | None]:
        """Sum up the same, and turn T in the same pass."""
        shares = [own.float() for own in is_w]
        metric = self.metric if adds_up(self.metric) else None
        return turned_energies(
            weights, targets, self.groups, shares, metric=metric, squares=squares
        )

    def spread(self, weights: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        """Spread a value of every unit over the weights: broadcastable, to be read only."""
        return spread(weights, self.groups, values)

    def unit_matrices(self, weights: Sequence[Tensor]) -> Iterator[Tensor]:
        """Lay the units out: (n_units, p) per group, one row a unit; may alias the weights."""
        return (unit_matrix(weights, group) for group in self.groups)

    def masks(self, weights: Sequence[Tensor], support: Sequence[Tensor]) -> list[Tensor]:
        """Spread a support over the weights: broadcastable bool masks, True = kept."""
        return row_masks(weights, self.groups, support)
