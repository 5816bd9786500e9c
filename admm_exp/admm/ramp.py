"""How many of the units to be removed an iteration pulls to zero."""

from dataclasses import replace
from math import ceil
from typing import Any, TypeVar

from admm_exp.admm.partition import PartitionConstraint
from admm_exp.admm.projection import ChannelConstraint

SomeConstraint = TypeVar("SomeConstraint", bound=ChannelConstraint | PartitionConstraint)


def ramped_share(iteration: int, iterations: int, ramp: float) -> float:
    """Compute which share of the units to be removed an iteration pulls to zero.

        1 - (1 - t)^3,   t = iteration / (ramp * iterations), at most 1

    Args:
        iteration: Counted from 1.
        iterations: Number of iterations planned.
        ramp: Fraction of them over which the share rises; 0 removes everything from the start.

    References:
        Zhu and Gupta 2017, arXiv 1710.01878.
    """
    done = 1.0 if ramp == 0.0 else min(1.0, iteration / (ramp * iterations))
    return 1.0 - (1.0 - done) ** 3


def count_ramped(iterations: int, ramp: float) -> int:
    """Count the iterations that pull on fewer units than are to be removed."""
    return max(0, ceil(ramp * iterations - 1e-9) - 1)


def loosened(constraint: SomeConstraint, share: float) -> SomeConstraint:
    """Loosen a constraint: of the units to be removed only a share is, the same in every block.

    Args:
        constraint: With all units to be removed.
        share: In [0, 1]; 1 gives the constraint as it is.
    """
    groups: list[Any] = []
    for group in constraint.groups:
        size, n_kept = (n // group.n_blocks for n in (group.n_units, group.n_kept))
        n_removed = int(share * (size - n_kept) + 1e-9)
        groups.append(replace(group, n_kept=group.n_blocks * (size - n_removed)))
    changed: dict[str, Any] = {"groups": tuple(groups)}
    return replace(constraint, **changed)
