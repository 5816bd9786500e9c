"""What a benchmark row is: variants of one piece of work, and how far they are from the limit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from admm_exp.pruning.cost.timing import take_turns
from admm_exp.statistics import interquartile_range

if TYPE_CHECKING:
    import torch

    from admm_exp.bench.machine import Machine

QUICK_ROUNDS, ROUNDS = 3, 15
Actions = dict[str, Callable[[], object]]
"""Variant -> what is timed."""


@dataclass(frozen=True)
class Bench:
    """What the functions that measure rows are given.

    Args:
        is_quick: Smaller work and fewer rounds; the shapes that targets speak of stay.
        device: Where networks and data are.
        folder: An empty folder to write to.
        machine: Its measured limits.
        clock: What times are read from; None for wall time.
    """

    is_quick: bool
    device: "torch.device"
    folder: Path
    machine: "Machine"
    clock: Callable[[], float] | None = None

    def take_turns(
        self, actions: Mapping[str, Callable[[], object]], turn_seconds: float
    ) -> dict[str, list[float]]:
        """Time variants in turns, see `admm_exp.pruning.cost.timing`."""
        rounds = QUICK_ROUNDS if self.is_quick else ROUNDS
        return take_turns(actions, rounds, turn_seconds, self.clock)


@dataclass(frozen=True)
class Target:
    """A number that has to be reached, wherever the row runs.

    Args:
        what: The quantity, in words.
        value: As measured.
        bound: What it may be at most, or at least.
        is_lower_bound: Whether the bound is the least that is enough.
    """

    what: str
    value: float
    bound: float
    is_lower_bound: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the value is on the right side of the bound."""
        return self.value >= self.bound if self.is_lower_bound else self.value <= self.bound


@dataclass(frozen=True)
class Measurement:
    """Variants of the same work, measured in turns.

    Args:
        name: Short, unique.
        title: The work, with its sizes.
        seconds: Variant -> seconds, one number a round; the first variant is what the others are
            compared with.
        limit_seconds: What bytes over measured bandwidth or operations over the measured rate allow
            for the work; None if the work has no such limit.
        limit: What the limit counts.
        items: Samples, or whatever a rate is wanted of, in the work; 0 if nothing.
        targets: What has to be reached.
        notes: Further numbers.
    """

    name: str
    title: str
    seconds: Mapping[str, list[float]]
    limit_seconds: float | None = None
    limit: str = ""
    items: int = 0
    targets: tuple[Target, ...] = ()
    notes: Mapping[str, float | str] = field(default_factory=dict)

    def median_seconds(self, variant: str) -> float:
        """Median over the rounds."""
        return median(self.seconds[variant])

    def iqr_seconds(self, variant: str) -> float:
        """Interquartile range over the rounds; 0 of a single one."""
        return interquartile_range(self.seconds[variant])

    def ratio(self, variant: str) -> float:
        """Median over the rounds of the variant's time over that of the first variant."""
        first = next(iter(self.seconds.values()))
        return median(t / t_first for t, t_first in zip(self.seconds[variant], first, strict=True))

    def times_limit(self, variant: str) -> float | None:
        """How many times the limit the variant takes."""
        if self.limit_seconds is None:
            return None
        return self.median_seconds(variant) / self.limit_seconds

    def with_targets(self, *targets: Target) -> Self:
        """Copy the row with what it has to reach."""
        return replace(self, targets=targets)

    def with_notes(self, notes: Mapping[str, float | str]) -> Self:
        """Copy the row with further numbers."""
        return replace(self, notes={**self.notes, **notes})

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and the figure."""
        return {
            "name": self.name,
            "title": self.title,
            "limit_seconds": self.limit_seconds,
            "limit": self.limit,
            "items": self.items,
            "notes": dict(self.notes),
            "variants": {
                variant: {
                    "median_seconds": self.median_seconds(variant),
                    "iqr_seconds": self.iqr_seconds(variant),
                    "ratio": self.ratio(variant),
                    "times_limit": self.times_limit(variant),
                    "seconds": seconds,
                }
                for variant, seconds in self.seconds.items()
            },
            "targets": [vars(target) | {"is_met": target.is_met} for target in self.targets],
        }


def times_seen(event: str, run: Callable[[], object]) -> int:
    """Count an event of torch's profiler, such as a call that waits for a GPU."""
    from torch.profiler import profile

    with profile(acc_events=True) as seen:  # or it warns that it forgets
        run()
    return sum(found.count for found in seen.key_averages() if found.key == event)
