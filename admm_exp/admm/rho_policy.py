"""How the penalty parameter goes on from its start value, iteration by iteration."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from admm_exp.admm.convergence import Residuals


class RhoPolicy(Protocol):
    """Chooses rho of the next iteration from its start value and what was measured since.

    A policy is a pure function: with the residuals so far a run goes on where it stopped. The
    caller rescales U, so that the unscaled dual rho * U stays.
    """

    def __call__(self, start: float, past: Sequence[Residuals], iterations: int) -> float:
        """Choose rho of iteration len(past), counted from 0.

        Args:
            start: Penalty parameter of the first iteration, > 0.
            past: Residuals of the iterations so far, each with the rho it had.
            iterations: Number of iterations planned.
        """
        ...


class Constant:
    """The same rho in every iteration."""

    def __call__(self, start: float, past: Sequence[Residuals], iterations: int) -> float:
        """Choose rho of iteration len(past)."""
        return start


@dataclass(frozen=True)
class Geometric:
    """A fixed factor from each iteration to the next.

    A rising rho lets the weights move at first and leaves nothing in the units to be cut at last.

    Args:
        factor: At least 1.

    References:
        Ye et al. 2018, arXiv 1810.07378 (factor 1.3).

    Raises:
        ValueError: If factor is below 1.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_at_least_1("factor", self.factor)

    def __call__(self, start: float, past: Sequence[Residuals], iterations: int) -> float:
        """Choose rho of iteration len(past)."""
        return start * self.factor ** len(past)


@dataclass(frozen=True)
class Ramp:
    """A geometric rise from the start value to `growth` times it in the last iteration.

    Unlike a fixed factor it ends at the same rho however many iterations there are, unless they are
    so few that rho would jump.

    Args:
        growth: Rho of the last iteration over that of the first, at least 1.
        steepest: Most that rho may rise from an iteration to the next, at least 1; infinity if not
            given.

    Raises:
        ValueError: If growth or steepest is below 1.
    """

    growth: float
    steepest: float = inf

    def __post_init__(self) -> None:
        _check_at_least_1("growth", self.growth)
        _check_at_least_1("steepest", self.steepest)

    def __call__(self, start: float, past: Sequence[Residuals], iterations: int) -> float:
        """Choose rho of iteration len(past)."""
        factor = min(self.growth ** (1.0 / max(1, iterations - 1)), self.steepest)
        return start * factor ** len(past)


@dataclass(frozen=True)
class Balancing:
    """Keep the relative residuals within a factor of each other.

    Above `ratio` times the dual residual, the primal residual asks for a larger rho; below
    1 / ratio of it, for a smaller one. After a `reduced` W-step the dual residual is 0 while the
    support stays, so that rho then rises at every change.

    Args:
        ratio: How far apart the residuals may be, at least 1.
        factor: On rho at each change, at least 1.
        lowest: Smallest rho as a multiple of the start value, in (0, 1].
        highest: Largest rho as a multiple of the start value, at least 1.
        freeze_after: Iterations after which rho stays, which convergence needs.

    References:
        Boyd et al. 2011, section 3.4.1; Wohlberg 2017, arXiv 1704.06209 (relative residuals).

    Raises:
        ValueError: If an argument is out of range.
    """

    ratio: float
    factor: float
    lowest: float
    highest: float
    freeze_after: int

    def __post_init__(self) -> None:
        for name in ("ratio", "factor", "highest"):
            _check_at_least_1(name, getattr(self, name))
        if not 0.0 < self.lowest <= 1.0:
            raise ValueError(f"lowest must be in (0, 1], got {self.lowest}")
        if self.freeze_after < 0:
            raise ValueError(f"freeze_after must be at least 0, got {self.freeze_after}")

    def __call__(self, start: float, past: Sequence[Residuals], iterations: int) -> float:
        """Choose rho of iteration len(past)."""
        if not past:
            return start
        last = past[-1]
        if len(past) > self.freeze_after:
            return last.rho
        primal, dual = last.relative_primal_residual, last.relative_dual_residual
        rho = last.rho
        if primal > self.ratio * dual:
            rho *= self.factor
        elif dual > self.ratio * primal:
            rho /= self.factor
        return min(max(rho, self.lowest * start), self.highest * start)


@dataclass(frozen=True)
class SupportDriven:
    """Raise rho the faster, the more of the support the last update has exchanged.

    Args:
        fast: Factor after more than 10 % of the support has changed, at least 1.
        middle: Factor after more than 0.5 %, at least 1.
        slow: Factor after less, at least 1.

    References:
        Meng et al. 2024 (ALPS), arXiv 2406.07831 (factors 1.3, 1.2, 1.1).

    Raises:
        ValueError: If a factor is below 1.
    """

    fast: float
    middle: float
    slow: float

    def __post_init__(self) -> None:
        for name in ("fast", "middle", "slow"):
            _check_at_least_1(name, getattr(self, name))

    def __call__(self, start: float, past: Sequence[Residuals], iterations: int) -> float:
        """Choose rho of iteration len(past)."""
        if not past:
            return start
        change = past[-1].support_change
        factor = self.fast if change > 0.1 else self.middle if change > 0.005 else self.slow
        return past[-1].rho * factor


def _check_at_least_1(name: str, value: float) -> None:
    if not value >= 1.0:
        raise ValueError(f"{name} must be at least 1, got {value}")
