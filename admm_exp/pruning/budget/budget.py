"""From what a network may cost to the channels that stay in every group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm

import torch
from torch import Tensor, nn

from admm_exp.admm.groups import ChannelGroup, Member, unit_matrix
from admm_exp.admm.metrics import Metric
from admm_exp.errors import ConfigError
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.cost.cost import Cost
from admm_exp.pruning.surgery.groups import scale_columns

Counts = Callable[[float], list[int]]

TOLERANCE = 0.02
"""Largest distance from the budget, as a fraction of the dense network's cost."""
RELATIVE_TOLERANCE = 0.02
"""Distance from the budget, as a fraction of it, from which on single channels are moved."""
FLOOR = 0.5
"""Of what one sparsity for all groups would leave a group, how much a common ranking leaves it."""
FEWEST = 2
"""Channels that a shared budget must leave a group that has at least four times as many."""
BISECTIONS = 12
ATTEMPTS = 20
"""Changes of one group each that may bring a small network nearer to its budget."""


@dataclass(frozen=True)
class Budget:
    """What may remain of a network.

    Args:
        quantity: "macs" or "params".
        fraction: Of the dense network's, in (0, 1].
    """

    quantity: str
    fraction: float

    def of(self, cost: Cost, dense: Cost) -> float:
        """Return the fraction of the dense network's quantity that a network still has."""
        return float(getattr(cost, self.quantity) / getattr(dense, self.quantity))


def uniform_counts(planner: Planner, channel_multiple: int) -> Counts:
    """Give all groups one sparsity: from a strength in [0, 1] to channels kept per group."""

    def counts(strength: float) -> list[int]:
        sparsity = min(strength, 1.0 - 1e-9)
        return [group.count_kept(sparsity, channel_multiple) for group in planner.prunable.groups]

    return counts


def global_counts(planner: Planner, scores: Sequence[Tensor], channel_multiple: int) -> Counts:
    """Rank the channels of all groups together: from a strength to channels kept per group.

    The strength is the fraction of all channels that go, the lowest `standing` first; but every
    group keeps half of what it would keep if all had one sparsity.

    Args:
        planner: Knows the groups.
        scores: (n_units,) of every group, not negative, higher is better.
        channel_multiple: The kept channels of a group are rounded to a multiple of this.
    """
    standings = [standing(score) for score in scores]
    ranked = torch.cat(standings).sort().values

    def counts(strength: float) -> list[int]:
        threshold = ranked[min(int(strength * len(ranked)), len(ranked) - 1)]
        most = 1.0 - FLOOR * (1.0 - strength)
        return [
            group.count_kept(
                min(float((place < threshold).double().mean()), most, 1.0 - 1e-9), channel_multiple
            )
            for group, place in zip(planner.prunable.groups, standings, strict=True)
        ]

    return counts


def standing(scores: Tensor) -> Tensor:
    """Say where channels stand in their group, in numbers that compare across groups.

    A channel has n times its share of the scores that are at least its own. Of n equal channels the
    k-th to go has n / (n - k + 1), whatever n is, so that groups of equal channels lose equal
    shares; the last one has n and hardly ever goes.

    Args:
        scores: (n_units,) of a group, not negative, higher is better.

    Returns:
        (n_units,) float64, at least 0.

    References:
        Lee et al. 2021, arXiv 2010.07611 (LAMP: the share, for single weights).
    """
    values, order = scores.double().sort(descending=True)
    shares = values / values.cumsum(0).clamp(min=1e-30)
    return torch.empty_like(shares).scatter_(0, order, shares) * len(scores)


@torch.no_grad()
def unit_scores(model: nn.Module, planner: Planner, metric: Metric) -> list[Tensor]:
    """Score the channels of every group on the weights of a trained network."""
    scores = []
    for position, group in enumerate(planner.prunable.groups):
        weights = [model.get_parameter(name).detach().float() for name, _, _ in group.parts]
        members = tuple(Member(i, dim, rows) for i, (_, dim, rows) in enumerate(group.parts))
        units = ChannelGroup(
            group.name,
            group.n_units,
            group.n_units,
            members,
            group.n_blocks,
            position,
            scale_columns(model, group),
        )
        scores.append(metric(unit_matrix(weights, units), units).cpu())
    return scores


def sparsities_within(
    planner: Planner,
    budget: Budget,
    counts: Counts,
    channel_multiple: int = 1,
) -> dict[str, float]:
    """Choose the sparsity of every group so that the network that is cut costs the budget.

    The strength of the pruning is bisected on the cost of networks that were really cut; where
    whole channels of many groups would jump at once, one group after another is then changed.

    Args:
        planner: Cuts the copies.
        budget: What may remain.
        counts: Channels kept per group for a strength in [0, 1]; falls as the strength rises.
        channel_multiple: Step by which a group may change.

    Returns:
        Sparsity by the name of every group.

    Raises:
        ConfigError: If no network within the tolerance can be reached, with the nearest one.
    """

    def share(kept: Sequence[int]) -> float:
        return budget.of(planner.cost(kept), planner.dense)

    weak, strong = 0.0, 1.0
    for _ in range(BISECTIONS):
        strength = (weak + strong) / 2
        if share(counts(strength)) > budget.fraction:
            weak = strength
        else:
            strong = strength
    kept = between(counts(strong), counts(weak), share, budget.fraction)
    if abs(share(kept) - budget.fraction) > RELATIVE_TOLERANCE * budget.fraction:
        kept = _nudged(planner, kept, share, budget.fraction, channel_multiple)
    reached = share(kept)
    if abs(reached - budget.fraction) > TOLERANCE:
        raise ConfigError(
            f"budget.{budget.quantity}={budget.fraction:g} cannot be reached by whole channels"
            f"{f' in multiples of {channel_multiple}' if channel_multiple > 1 else ''}: "
            f"the nearest is {reached:.3f}"
        )
    return planner.sparsities(kept)


def require_alive(planner: Planner, by_layer: Mapping[str, float], allocation: str) -> None:
    """Refuse a shared budget that leaves a group next to nothing.

    Args:
        planner: Knows the groups.
        by_layer: Sparsity by the name of every group.
        allocation: How the budget was shared.

    Raises:
        ConfigError: With the first group that would hardly be left.
    """
    for group in planner.prunable.groups:
        kept = group.count_kept(by_layer[group.name])
        if kept < FEWEST <= group.n_units // 4:
            raise ConfigError(
                f"budget.allocation={allocation} would leave {kept} of the {group.n_units} "
                f"channels of {group.name}: ask for a larger budget, or take "
                f"budget.allocation=uniform"
            )


def between(
    fewer: list[int], more: list[int], share: Callable[[Sequence[int]], float], target: float
) -> list[int]:
    """Move group by group from too few channels towards too many; return the nearest.

    Args:
        fewer: Channels kept per group that cost too little.
        more: Channels kept per group that cost too much.
        share: What a network costs, as a fraction of the dense one.
        target: The fraction.
    """
    best, distance = fewer, abs(share(fewer) - target)
    current = list(fewer)
    for position, count in enumerate(more):
        current[position] = count
        if abs((reached := share(current)) - target) < distance:
            best, distance = list(current), abs(reached - target)
        if reached > target:
            current[position] = fewer[position]
    return best


def _nudged(
    planner: Planner,
    kept: list[int],
    share: Callable[[Sequence[int]], float],
    target: float,
    channel_multiple: int,
) -> list[int]:
    """Change one group by one step at a time, always the one that brings the cost nearest."""
    best = abs(share(kept) - target)
    for _ in range(ATTEMPTS):
        candidates = []
        for position, group in enumerate(planner.prunable.groups):
            step = lcm(group.multiple(channel_multiple), group.n_blocks)
            for count in (kept[position] - step, kept[position] + step):
                if (0 < count < group.n_units and count % step == 0) or count == group.n_units:
                    candidates.append([*kept[:position], count, *kept[position + 1 :]])
        nearest = min(candidates, key=lambda counts: abs(share(counts) - target), default=kept)
        if abs(share(nearest) - target) >= best:
            return kept
        kept, best = nearest, abs(share(nearest) - target)
    return kept
