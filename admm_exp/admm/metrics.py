"""How a unit is scored: from the unit matrix of its group to one number a unit."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from admm_exp.admm.groups import Units
from admm_exp.admm.pieces import PIECE

BLOCK, SMALL_BLOCK = 256, 64
"""Units that are centred at once; what of their products with each other is computed twice."""


class Metric(Protocol):
    """Scores units; the units with the highest scores are kept.

    A metric is called with theta, (n_units, p) float32, and the group it belongs to, and returns
    (n_units,) scores. It must be a pure function of both. Any function of that form will do; what
    else it may say of itself is read by the functions below.
    """

    def __call__(self, theta: Tensor, group: Units) -> Tensor: ...  # noqa: D102


@runtime_checkable
class GradientMetric(Metric, Protocol):
    """A metric that scores by gradients of the task.

    Attributes:
        batches: Training batches that the gradients are averaged over, >= 1.
        gradients: What `learn` was given; empty before.
    """

    batches: int
    gradients: tuple[Tensor, ...]

    def learn(self, gradients: Sequence[Tensor]) -> None:
        """Take the mean absolute gradients: (n_units, p) of every group, in their order."""


@runtime_checkable
class PartsMetric(Metric, Protocol):
    """A metric that scores units where they lie, without a copy of the whole group."""

    def of_parts(self, parts: Sequence[Tensor], signs: Tensor | None = None) -> Tensor:
        """Score units that lie in parts: (n_units,).

        Args:
            parts: (n_units, p) each.
            signs: (n_units,), 1 or -1, by which every unit is multiplied; None for 1.
        """


def needs_scales(metric: Metric) -> bool:
    """Whether a metric reads the scales of norm layers: its attribute `needs_scales`, or False."""
    return bool(getattr(metric, "needs_scales", False))


def compares_units(metric: Metric) -> bool:
    """Whether it measures distances between units: its attribute `compares_units`, or False."""
    return bool(getattr(metric, "compares_units", False))


def ranks_by_energy(metric: Metric) -> bool:
    """Whether its scores are the sums of squares: its attribute `ranks_by_energy`, or False."""
    return bool(getattr(metric, "ranks_by_energy", False))


def adds_up(metric: Metric) -> bool:
    """Whether a unit scores what its parts add up to, in any group, and -theta as theta does.

    Its attribute `adds_up`, or False.
    """
    return bool(getattr(metric, "adds_up", False))


class L2Norm:
    """Sum of squares over all members of a unit: the Euclidean projection."""

    ranks_by_energy = True

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        return theta.square().sum(dim=1)


class L1Norm:
    """Sum of absolute values over all members of a unit.

    References:
        Li et al. 2017, arXiv 1608.08710.
    """

    adds_up = True

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        return theta.abs().sum(dim=1)


class FPGM:
    """Sum of distances to all other units of the group: the most replaceable unit goes first.

    Distances come from matrix products, |a-b|^2 = |a|^2 + |b|^2 - 2ab, where a is centred
    (distances do not change, cancellation does). Each pair of units is multiplied once, and no more
    than BLOCK units are copied.

    References:
        He et al. 2019, arXiv 1811.00250, equation 6.
    """

    compares_units = True

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        return self.of_parts([theta])

    def of_parts(self, parts: Sequence[Tensor], signs: Tensor | None = None) -> Tensor:
        """Score units that lie in parts, (n_units, p) each; large ones are not put side by side."""
        if len(parts) > 1 and sum(part.numel() for part in parts) <= PIECE:  # a copy costs less
            parts = [torch.cat(list(parts), dim=1)]
        sums = parts[0].new_zeros(len(parts[0]))
        signs = torch.ones_like(sums) if signs is None else signs.to(sums)
        means = [torch.mv(part.T, signs).div_(len(sums)) for part in parts]
        squares = torch.empty_like(sums)
        for start in range(0, len(sums), BLOCK):
            products = _products(parts, signs, means, start)
            squares[start : start + BLOCK] = products[:, start:].diagonal()
            for top in range(0, len(products), SMALL_BLOCK):
                left = start + top
                own = slice(left, min(left + SMALL_BLOCK, start + len(products)))
                distances = products[top : top + SMALL_BLOCK, : own.stop].mul_(-2.0)
                distances.add_(squares[own].unsqueeze(1)).add_(squares[: own.stop])
                distances[:, left:].fill_diagonal_(0.0)
                sums[own] += distances.clamp_(min=0.0).sqrt_().sum(dim=1)
                sums[:left] += distances[:, :left].sum(dim=0)
        return sums


def _products(
    parts: Sequence[Tensor], signs: Tensor, means: Sequence[Tensor], start: int
) -> Tensor:
    """Multiply a block of centred units with those before it and, below the diagonal, with itself.

    A centred unit times the mean is taken off the product with a unit that is not centred.
    """
    n = min(BLOCK, len(signs) - start)
    own = signs[start : start + n].unsqueeze(1)
    products = parts[0].new_zeros(n, start + n)
    before, with_mean = products[:, :start], parts[0].new_zeros(n)
    for part, mean in zip(parts, means, strict=True):
        block = torch.addcmul(-mean, part[start : start + n], own)
        if start:
            before.addmm_(block, part[:start].T)
            with_mean.addmv_(block, mean)
        step = SMALL_BLOCK if part.shape[1] > SMALL_BLOCK else BLOCK
        for top in range(0, n, step):
            rows = block[top : top + step]
            until = top + len(rows)
            products[top:until, start : start + until].addmm_(rows, block[:until].T)
    before.mul_(signs[:start]).sub_(with_mean.unsqueeze(1))
    return products


class Random:
    """The same random order in every iteration of a run: drawn from the seed and the group.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,), without reading theta."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + group.position)
        return torch.rand(group.n_units, generator=generator).to(theta.device)
