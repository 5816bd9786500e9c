"""Where an ADMM phase stands: how much is removed by now, whether the support stays, what is wrong.

All of it is read from the residuals so far, so that a run goes on where it stopped.
"""

from collections.abc import Sequence

from admm_exp.admm.residuals import Residuals

STABLE_CHANGE = 1e-3
"""Largest support change of an iteration that counts as none."""
FLIPPING_ITERATIONS, FLIPPING_CHANGE, FLIPPING_ENERGY = 3, 0.2, 0.05
"""A support flips when so many iterations in a row exchanged more than this part of it, while so
much energy was still outside it."""


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
