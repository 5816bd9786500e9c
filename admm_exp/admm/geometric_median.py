"""Distance to the point that is nearest to all units."""

import torch
from torch import Tensor

from admm_exp.admm.groups import Units

ITERATIONS = 64
SMALLEST = 1e-12
"""Keeps the weight of a unit finite that lies in the median, as a fraction of the spread."""


class GeometricMedian:
    """Distance of a unit, over all members of its group, to the geometric median of the units.

    The unit nearest to the median is the one that the others replace best, and goes first.

    References:
        He et al. 2019, arXiv 1811.00250, equations 3 to 5; Weiszfeld 1937 (the median).
    """

    compares_units = True

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        return (theta - geometric_median(theta)).norm(dim=1)


def geometric_median(points: Tensor) -> Tensor:
    """Find the point with the smallest sum of distances to all points.

        m <- sum_i x_i / |x_i - m| / sum_i 1 / |x_i - m|

    Args:
        points: (n, p).

    Returns:
        (p,), after a fixed number of iterations, so that every process finds the same.

    References:
        Weiszfeld 1937, doi 10.1007/s10479-008-0352-z (English translation, 2009).
    """
    median = points.mean(dim=0)
    spread = (points - median).norm(dim=1).mean()
    for _ in range(ITERATIONS):
        distances = (points - median).norm(dim=1).clamp(min=float(spread) * SMALLEST + 1e-30)
        weights = 1.0 / distances
        median = torch.mv(points.T, weights / weights.sum())
    return median
