"""Where an ADMM phase stands: how much is removed by now, whether the support stays, what is wrong.

All of it is read from the residuals so far, so that a run goes on where it stopped.
"""

from collections.abc import Sequence

from admm_exp.admm.convergence import Residuals

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


def flipping_complaint(
    past: Sequence[Residuals], w_step: str, auto_rho: float | None = None, n_ramped: int = 0
) -> str | None:
    """Say that a support flips and what to try, or None if it does not.

    Args:
        past: Residuals of the iterations so far.
        w_step: Form of the W-step.
        auto_rho: rho that pulls a unit which nothing holds to zero; None if it is not known.
        n_ramped: Iterations at the start that did not remove all units yet.
    """
    if not is_support_flipping(past[n_ramped:]):
        return None
    last = past[-1]
    found = (
        f"{last.support_change:.0%} of the support was exchanged in iteration {len(past)} and "
        f"{last.dead_energy:.0%} of the energy is still to be cut (|U|/|W| {last.dual_ratio:.2f}, "
        f"rho {last.rho:.3g}, w_step={w_step})"
    )
    if auto_rho is not None and last.rho < auto_rho:
        return f"rho is too small: {found}: try rho={auto_rho:.2g}"
    if w_step != "proximal":
        return (
            f"w_step={w_step} does not bring the units to be removed to zero: {found}: take "
            f"w_step=proximal, whose pull does not pass through the optimizer"
        )
    if auto_rho is None:
        return f"rho is too small: {found}: try rho={10.0 * last.rho:.2g}"
    return (
        f"the task moves the units to be removed faster than rho pulls them: {found}: lower the "
        f"learning rate or give it more iterations"
    )
