"""How a unit is scored: from the unit matrix of its group to one number a unit."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from admm_exp.admm.groups import Units

BLOCK = 256
"""Units that are compared with so many others at once: 256 KB of distances."""


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

    Distances come from matrix products, |a-b|^2 = |a|^2 + |b|^2 - 2ab, on the centred matrix
    (distances do not change, cancellation does), block by block: each pair of units once, and what
    is done to the distances stays in the cache.

    References:
        He et al. 2019, arXiv 1811.00250, equation 6.
    """

    compares_units = True

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        centred = theta - theta.mean(dim=0)
        squares = torch.linalg.vector_norm(centred, dim=1).square()
        sums = torch.zeros_like(squares)
        starts = range(0, len(theta), BLOCK)
        blocks = [(slice(i, i + BLOCK), slice(j, j + BLOCK)) for i in starts for j in starts]
        for one, other in ((i, j) for i, j in blocks if i.start <= j.start):
            distances = torch.addmm(squares[other], centred[one], centred[other].T, alpha=-2.0)
            distances.add_(squares[one].unsqueeze(1)).clamp_(min=0.0)
            if one == other:
                sums[one] += distances.fill_diagonal_(0.0).sqrt_().sum(dim=1)
            else:
                sums[one] += distances.sqrt_().sum(dim=1)
                sums[other] += distances.sum(dim=0)
        return sums


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
