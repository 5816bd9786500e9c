"""Choosing the penalty parameter."""

from typing import NamedTuple

RHO_S_ONE_PERCENT = 9.2
"""rho * S that leaves 1 % of a coordinate with no task gradient: 2 ln(100)."""


class Momentum(NamedTuple):
    """What SGD adds of its past steps.

    Attributes:
        size: In [0, 1); 0 is none.
        nesterov: Whether the gradient is looked up ahead.
    """

    size: float = 0.0
    nesterov: bool = False


def auto_rho(sum_lr: float, momentum: float) -> float:
    """Choose rho so that the ADMM phase pulls the units to be cut down to 1 % of their size.

    A coordinate without task gradient decays like exp(-rho * S / 2) with
    S = sum of lr / (1 - momentum) over all optimizer steps, so rho = 9.2 (1 - momentum) / sum(lr).
    That holds for SGD, and in the proximal form for every optimizer: its steps multiply such a
    coordinate by 1 / (1 + lr * rho) whatever the optimizer does to gradients.

    Args:
        sum_lr: Sum of the learning rates of all optimizer steps of the ADMM phase, > 0.
        momentum: Momentum of the optimizer, in [0, 1); 0 for Adam-like ones.

    Raises:
        ValueError: If sum_lr is not positive or momentum is outside [0, 1).
    """
    if not sum_lr > 0.0:
        raise ValueError(f"the learning rates of the ADMM phase must sum to more than 0: {sum_lr}")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    return RHO_S_ONE_PERCENT * (1.0 - momentum) / sum_lr


def largest_stable_rho(lr: float, momentum: Momentum) -> float:
    """Bound rho for which the explicit gradient step on rho/2 * ||W - T||^2 does not diverge.

    On a quadratic of curvature rho, heavy-ball with momentum m is stable iff lr * rho < 2 (1 + m),
    Nesterov's form iff lr * rho < 2 (1 + m) / (1 + 2 m).

    Args:
        lr: Learning rate, > 0.
        momentum: Of the optimizer.

    References:
        Polyak 1964, doi 10.1016/0041-5553(64)90137-5; Lessard et al. 2016, arXiv 1408.3595.
    """
    look_ahead = 1.0 + 2.0 * momentum.size if momentum.nesterov else 1.0
    return 2.0 * (1.0 + momentum.size) / (look_ahead * lr)
