"""What rho every iteration of a phase has, and what its pull comes to over the whole phase."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from admm_exp.admm.convergence import Residuals
from admm_exp.admm.rho_policy import RhoPolicy

STEEPEST = 4.0
"""A policy that answers to what is measured may spend so much that later iterations have this part
of the rho that was foreseen for them, or save so much that they have this multiple of it."""
BISECTIONS = 80
DOUBLINGS = 60


@dataclass(frozen=True)
class Pull:
    """How strongly the steps of a phase pull a coordinate that the task does not hold.

    A step of size h = lr / (1 - momentum) at rho takes h * rho from the logarithm of its distance
    to Z - U; the proximal form log(1 + h * rho). Summed over a phase to S, with the updates of U
    between them, they leave exp(-S/2) of the coordinate, exp(-S) if there is one iteration alone.
    Momentum takes its time: with fewer than some 10 / (1 - momentum) steps it leaves more.

    Args:
        sizes: h of the steps of every iteration, (n_steps,) float64 each, >= 0.
        is_proximal: Whether a step divides by 1 + h * rho.
    """

    sizes: Sequence[Tensor]
    is_proximal: bool = False

    def of(self, iteration: int, rho: float) -> float:
        """Sum the pulls of an iteration's steps.

        Args:
            iteration: Counted from 0.
            rho: Its penalty parameter.
        """
        steps = self.sizes[iteration] * rho
        return float((steps.log1p() if self.is_proximal else steps).sum())

    def total(self, rhos: Sequence[float], first: int = 0) -> float:
        """Sum the pulls of iterations that follow each other.

        Args:
            rhos: Penalty parameter of each.
            first: The first of them, counted from 0.
        """
        return sum(self.of(iteration, rho) for iteration, rho in enumerate(rhos, start=first))


@dataclass(frozen=True)
class RhoCourse:
    """What rho every iteration of a phase has.

    Args:
        policy: Chooses rho from its start value.
        pull: Of the steps, by iteration.
        limits: Largest rho of every iteration; the start value counts even if it is larger.
        total: What the pulls of the phase shall sum to; None to leave that to the start value.
    """

    policy: RhoPolicy
    pull: Pull
    limits: Sequence[float]
    total: float | None = None

    @property
    def iterations(self) -> int:
        """Number of iterations planned."""
        return len(self.limits)

    def start(self, total: float) -> float:
        """Choose the start value with which the pulls of the whole phase sum to a total.

        The policy is asked for its whole course, as if all iterations were alike; limits count.

        Args:
            total: Sum of the pulls, > 0.
        """

        def reached(start: float) -> float:
            return self.pull.total(self._foreseen(start))

        return _solved(reached, total)

    def next(self, start: float, past: Sequence[Residuals]) -> float:
        """Choose rho of iteration len(past), counted from 0.

        With a total, a policy that answers to what is measured gets its way as long as the rest of
        the phase can still make up the total; the last iteration takes exactly what is left.

        Args:
            start: Penalty parameter of the first iteration.
            past: Residuals of the iterations so far.
        """
        if not past:
            return self.policy(start, past, self.iterations)
        wish = self._held(start, [self.policy(start, past, self.iterations)], len(past))[0]
        if self.total is None:
            return wish
        return self._held(start, [self._affordable(wish, start, past)], len(past))[0]

    def pulled(self, past: Sequence[Residuals]) -> float:
        """Sum the pulls of the iterations so far."""
        return self.pull.total([residuals.rho for residuals in past])

    def _foreseen(self, start: float) -> list[float]:
        """Ask the policy for the rho of all iterations, if nothing stands out in any."""
        seen: list[Residuals] = []
        for _ in range(self.iterations):
            seen.append(_calm(self.policy(start, seen, self.iterations)))
        return self._held(start, [residuals.rho for residuals in seen])

    def _held(self, start: float, rhos: Sequence[float], first: int = 0) -> list[float]:
        """Hold rhos of iterations from `first` on below their limits, or the start value."""
        return [
            rho if iteration == 0 else min(rho, max(start, self.limits[iteration]))
            for iteration, rho in enumerate(rhos, start=first)
        ]

    def _affordable(self, wish: float, start: float, past: Sequence[Residuals]) -> float:
        """Change a wish for the next rho so far that the rest of the phase can make up the total.

        The last iteration takes exactly what is left.
        """
        assert self.total is not None
        now, foreseen = len(past), self._foreseen(start)
        left = self.total - self.pulled(past)

        def beside(factor: float) -> float:
            rest = [factor * rho for rho in foreseen[now + 1 :]]
            own = left - self.pull.total(self._held(start, rest, now + 1), now + 1)
            return _solved(lambda rho: self.pull.of(now, rho), own) if own > 0.0 else 0.0

        affordable = min(max(wish, beside(STEEPEST)), beside(1.0 / STEEPEST))
        return affordable if affordable > 0.0 else foreseen[now] / STEEPEST


def _calm(rho: float) -> Residuals:
    """Make up the residuals of an iteration in which nothing stands out."""
    return Residuals(
        rho=rho,
        primal_residual=0.0,
        dual_residual=0.0,
        eps_primal=0.0,
        eps_dual=0.0,
        relative_primal_residual=0.0,
        relative_dual_residual=0.0,
        support_change=0.0,
        dead_energy=0.0,
        dual_ratio=0.0,
        projection_gap=0.0,
    )


def _solved(rising: Callable[[float], float], target: float) -> float:
    """Find where a rising function of a positive number reaches a target, by bisection.

    Where it never does, a number far beyond is returned.
    """
    low = high = 1.0
    for _ in range(DOUBLINGS):
        if rising(high) >= target:
            break
        low, high = high, 2.0 * high
    for _ in range(DOUBLINGS):
        if rising(low) < target:
            break
        low, high = 0.5 * low, low
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if rising(middle) < target:
            low = middle
        else:
            high = middle
    return high


def step_sizes(lrs: Sequence[Sequence[float]], momentum: float) -> list[Tensor]:
    """Compute the step sizes h = lr / (1 - momentum) of every iteration.

    Args:
        lrs: Learning rates of the steps of every iteration.
        momentum: Of the optimizer, in [0, 1); 0 for Adam-like ones.
    """
    return [torch.tensor(rates, dtype=torch.float64) / (1.0 - momentum) for rates in lrs]
