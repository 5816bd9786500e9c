"""Where an ADMM phase stands: how much is removed by now, whether the support stays, what is wrong.

All of it is read from the residuals so far, so that a run goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any, TypeVar

from admm_exp.admm.partition import PartitionConstraint
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.residuals import Residuals

STABLE_CHANGE = 1e-3
"""Largest support change of an iteration that counts as none."""
FLIPPING_ITERATIONS, FLIPPING_CHANGE, FLIPPING_ENERGY = 3, 0.2, 0.05
"""A support flips when so many iterations in a row exchanged more than this part of it, while so
much energy was still outside it."""

Constraint = TypeVar("Constraint", bound=ChannelConstraint | PartitionConstraint)


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


def partial(constraint: Constraint, share: float) -> Constraint:
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
    loosened: dict[str, Any] = {"groups": tuple(groups)}
    return replace(constraint, **loosened)


def is_support_stable(past: Sequence[Residuals], iterations: int) -> bool:
    """Tell whether the support has stayed for a number of iterations, the last one included."""
    last = past[-iterations:]
    return len(last) == iterations and all(r.support_change <= STABLE_CHANGE for r in last)


def stop_reason(past: Sequence[Residuals], stopping: str, stable_iterations: int) -> str | None:
    """Say why the phase may end after the last iteration, or None if it may not.

    Args:
        past: Residuals of the iterations with all units to be removed.
        stopping: "residuals" ends when both are within their tolerances, "support" when the
            support stays, "budget" never before all iterations are done.
        stable_iterations: Iterations without a change that make a support stable.

    References:
        Boyd et al. 2011, section 3.3.1 (residuals).
    """
    is_over = {
        "budget": False,
        "residuals": bool(past) and past[-1].is_converged,
        "support": is_support_stable(past, stable_iterations),
    }[stopping]
    return stopping if is_over else None


def is_support_flipping(past: Sequence[Residuals]) -> bool:
    """Tell whether rho is too small: units go out and come back, iteration after iteration.

    What is outside the support collects U = W until -U outweighs what is inside, so that large
    parts are exchanged and nothing is ever pulled to zero; a cut falls to chance then.
    """
    last = past[-FLIPPING_ITERATIONS:]
    return len(last) == FLIPPING_ITERATIONS and all(
        r.support_change > FLIPPING_CHANGE and r.dead_energy > FLIPPING_ENERGY for r in last
    )
