"""From the time that a network may take to the channels that stay in every group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from admm_exp.errors import ConfigError
from admm_exp.pruning.budget.budget import BISECTIONS, TOLERANCE, Counts, between
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.cost.latency import PRECISION, LatencyRatio, compare_latency
from admm_exp.pruning.dependency.inputs import device_of
from admm_exp.training.memory_format import laid_out

CONFIRMATIONS = 3
"""Times that the nearest network may turn out to be another when it is measured again."""


@dataclass(frozen=True)
class LatencyChoice:
    """Sparsities that were chosen by measuring.

    Attributes:
        sparsities: By the name of every group.
        ratio: What the network that is cut so takes, measured once more after it was chosen.
    """

    sparsities: Mapping[str, float]
    ratio: LatencyRatio


@dataclass(frozen=True)
class LatencyBudget:
    """The time that a forward pass may take.

    Args:
        fraction: Of the dense network's, in (0, 1).
        sample: (1, C, H, W) on the device that is measured, or other inputs of one sample,
            repeated to fill a batch.
        batch_size: At least 1.
        clock: Seconds since some moment; None for that which is disturbed least.
    """

    fraction: float
    sample: Any
    batch_size: int
    clock: Callable[[], float] | None = None

    def __str__(self) -> str:
        """Name the setting and where it is measured."""
        where = f"at batch {self.batch_size} on {device_of(self.sample).type}"
        return f"budget.latency={self.fraction:g} {where}"

    def measure(self, small: nn.Module, dense: nn.Module) -> LatencyRatio:
        """Measure how long a network takes as a fraction of the dense one."""
        return compare_latency(small, dense, self.sample, self.batch_size, self.clock)

    def is_missed_by(self, ratio: LatencyRatio) -> bool:
        """Tell whether a network is beyond the tolerance, whatever the noise."""
        return abs(ratio.value - self.fraction) > TOLERANCE + ratio.spread

    def require_reachable(self, dense: nn.Module, planner: Planner, counts: Counts) -> None:
        """Check that the smallest network is fast enough.

        Args:
            dense: The network, on the device; left as it is.
            planner: Cuts copies of it.
            counts: Channels kept per group for a strength in [0, 1].

        Raises:
            ConfigError: If it is not, whatever the noise.
        """
        require_enough(self.fraction, self._meter(dense, planner)(counts(1.0)), str(self))

    def choose(self, dense: nn.Module, planner: Planner, counts: Counts) -> LatencyChoice:
        """Choose the sparsity of every group by measuring networks that were really cut.

        Args:
            dense: The network, on the device; left as it is.
            planner: Cuts copies of it.
            counts: Channels kept per group for a strength in [0, 1].

        Raises:
            ConfigError: If the budget cannot be reached.
        """
        kept, ratio = counts_taking(self.fraction, counts, self._meter(dense, planner), str(self))
        return LatencyChoice(planner.sparsities(kept), ratio)

    def _meter(self, dense: nn.Module, planner: Planner) -> "Meter":
        def measure(kept: Sequence[int]) -> LatencyRatio:
            return self.measure(laid_out(planner.cut(kept, dense), self.sample.device), dense)

        return measure


Meter = Callable[[Sequence[int]], LatencyRatio]
"""Measures the network that keeps so many channels per group."""


def counts_taking(
    fraction: float, counts: Counts, measure: Meter, asked: str
) -> tuple[list[int], LatencyRatio]:
    """Choose the channels of every group so that the network that is cut takes a fraction.

    The strength of the pruning is bisected until the fraction is met or no channel moves any
    more; where whole channels of many groups would jump at once, they then move group by group.
    The nearest is measured once more, since the luckiest of many measurements says too little.

    Args:
        fraction: Of the dense network's latency.
        counts: Channels kept per group for a strength in [0, 1]; falls as the strength rises.
        measure: Measures a network that was cut.
        asked: Names the setting in messages.

    Returns:
        Channels kept per group, and what they take.

    Raises:
        ConfigError: If no network within the tolerance and the noise can be reached.
    """
    tried: dict[tuple[int, ...], LatencyRatio] = {}

    def share(kept: Sequence[int]) -> float:
        if tuple(kept) not in tried:
            tried[tuple(kept)] = measure(kept)
        return tried[tuple(kept)].value

    def distance(kept: Sequence[int]) -> float:
        return abs(share(kept) - fraction)

    weak, strong = 0.0, 1.0
    smallest = tuple(counts(strong))
    share(smallest)
    require_enough(fraction, tried[smallest], asked)
    for _ in range(BISECTIONS):
        strength = (weak + strong) / 2
        if counts(weak) == counts(strong) or distance(counts(strength)) <= PRECISION:
            break
        if share(counts(strength)) > fraction:
            weak = strength
        else:
            strong = strength
    if min(map(distance, tried)) > TOLERANCE:
        between(counts(strong), counts(weak), share, fraction)
    for _ in range(CONFIRMATIONS):
        nearest = min(tried, key=distance)
        tried[nearest] = measure(nearest)
        if distance(nearest) <= TOLERANCE:
            break
    nearest = min(tried, key=distance)
    if distance(nearest) > TOLERANCE + tried[nearest].spread:
        raise ConfigError(
            f"{asked} cannot be reached by whole channels: the nearest is {share(nearest):.3f}"
        )
    return list(nearest), tried[nearest]


def require_enough(fraction: float, smallest: LatencyRatio, asked: str) -> None:
    """Check that the smallest network takes no more than a fraction, whatever the noise.

    Args:
        fraction: Of the dense network's latency.
        smallest: What the smallest network takes.
        asked: Names the setting in the message.

    Raises:
        ConfigError: If it takes more.
    """
    if smallest.value > fraction + TOLERANCE + smallest.spread:
        raise ConfigError(
            f"{asked} cannot be reached: the smallest network that pruning leaves takes "
            f"{smallest.value:.3f} (+- {smallest.spread:.3f}) of the dense one's time"
        )
