import pytest
import torch

from admm_exp.admm.geometric_median import GeometricMedian, geometric_median
from admm_exp.admm.groups import ChannelGroup, Member

GROUP = ChannelGroup("conv", 5, 2, (Member(0, 0),))


@pytest.mark.parametrize("seed", range(8))
def test_unit_vectors_from_the_median_to_the_points_cancel(seed):
    points = torch.randn(9, 4, generator=torch.Generator().manual_seed(seed)).double()
    away = points - geometric_median(points)
    gradient = (away / away.norm(dim=1, keepdim=True)).sum(dim=0)  # zero at the only minimum
    assert gradient.norm() < 1e-4
    at_mean = points - points.mean(dim=0)
    assert (at_mean / at_mean.norm(dim=1, keepdim=True)).sum(dim=0).norm() > 1e-2


def test_median_of_points_on_a_line_is_the_middle_one():
    points = torch.tensor([0.0, 1.0, 2.0, 50.0, 100.0]).unsqueeze(1) * torch.ones(1, 3)
    scores = GeometricMedian()(points, GROUP)
    assert scores.argmin() == 2
    assert scores[4] == pytest.approx(98 * 3**0.5, rel=1e-2)


def test_equal_units_score_zero_and_no_nan():
    assert GeometricMedian()(torch.full((5, 3), 7.0), GROUP).tolist() == [0.0] * 5
