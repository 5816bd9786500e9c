import pytest
import torch

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.taylor import Taylor

GROUPS = [ChannelGroup(name, 2, 1, (Member(0, 0),), position=i) for i, name in enumerate("ab")]
THETA = torch.tensor([[1.0, -2.0], [3.0, 0.5]])


def test_score_weighs_every_scalar_by_its_gradient():
    metric = Taylor(batches=1)
    metric.learn([torch.ones(2, 2), torch.tensor([[0.0, 10.0], [1.0, 2.0]])])
    assert metric(THETA, GROUPS[1]).tolist() == [20.0, 4.0]
    assert metric(THETA, GROUPS[0]).tolist() == [3.0, 3.5]


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="batches must be at least 1, got 0"):
        Taylor(batches=0)
