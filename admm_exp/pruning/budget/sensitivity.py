"""How much accuracy every channel group costs: measured, and turned into sparsities."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor, nn

from admm_exp.admm.projection import keep_best
from admm_exp.pruning.budget.budget import Counts
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.dependency.copying import copied
from admm_exp.pruning.surgery.groups import PrunableGroup
from admm_exp.pruning.surgery.surgery import zero_

LEVELS = (0.25, 0.5, 0.75, 0.9)
SLOPE = 0.02
"""What the removal of a whole group counts beside the accuracy it costs, so that groups that cost
nothing are not emptied first and equal groups get equal sparsities."""


@dataclass(frozen=True)
class Curve:
    """Accuracy of a network with one channel group pruned and all others whole.

    Args:
        name: Of the group.
        sparsity: Fractions of the group's channels that were removed; begins with 0.
        accuracy: Of the network, in [0, 1], on validation data.
    """

    name: str
    sparsity: tuple[float, ...]
    accuracy: tuple[float, ...]


def measure_curves(
    model: nn.Module,
    planner: Planner,
    scores: Sequence[Tensor],
    validate: Callable[[nn.Module], float],
) -> tuple[Curve, ...]:
    """Prune one group after another at several sparsities, without training, and validate.

    Args:
        model: The trained network; left as it is.
        planner: Knows its groups.
        scores: (n_units,) of every group, higher is better.
        validate: Returns the accuracy of a network, which it may change, on validation data.

    References:
        Li et al. 2017, arXiv 1608.08710, section 3.2.
    """
    whole = validate(copied(model))
    curves = []
    for group, score in zip(planner.prunable.groups, scores, strict=True):
        counts = [group.count_kept(level) for level in LEVELS]
        kept = [n for n in dict.fromkeys(counts) if n < group.n_units]
        accuracies = [
            validate(_without(model, group, keep_best(score, n, group.n_blocks))) for n in kept
        ]
        sparsities = [1.0 - n / group.n_units for n in kept]
        curves.append(Curve(group.name, (0.0, *sparsities), (whole, *accuracies)))
    return tuple(curves)


def sensitivity_counts(
    planner: Planner, curves: Sequence[Curve], channel_multiple: int = 1
) -> Counts:
    """Prune all groups until each costs the same: from a strength to channels kept per group.

    The strength in [0, 1] is the loss of accuracy that every group may cost on its own; between
    measured sparsities it is interpolated, and a curve that rises again counts as flat.

    Args:
        planner: Knows the groups.
        curves: One a group, in the same order.
        channel_multiple: The kept channels of a group are rounded to a multiple of this.
    """
    pairs = list(zip(planner.prunable.groups, curves, strict=True))

    def counts(strength: float) -> list[int]:
        return [
            group.count_kept(sparsity_at(curve, strength), channel_multiple)
            for group, curve in pairs
        ]

    return counts


def sparsity_at(curve: Curve, strength: float) -> float:
    """Read the sparsity at which a group costs so much accuracy, in [0, 1)."""
    drops = accumulate((max(0.0, curve.accuracy[0] - a) for a in curve.accuracy), max)
    costs = [d + SLOPE * s for d, s in zip(drops, curve.sparsity, strict=True)] + [1.0 + SLOPE]
    sparsities = [*curve.sparsity, 1.0]
    wanted = strength * costs[-1]
    above = min(max(1, bisect_left(costs, wanted)), len(costs) - 1)
    low, high = costs[above - 1], costs[above]
    share = (wanted - low) / (high - low)
    sparsity = sparsities[above - 1] + share * (sparsities[above] - sparsities[above - 1])
    return min(max(sparsity, 0.0), 1.0 - 1e-9)


def _without(model: nn.Module, group: PrunableGroup, kept: Tensor) -> nn.Module:
    return zero_(copied(model), [group], [kept])
