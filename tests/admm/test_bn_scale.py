import torch

from admm_exp.admm.bn_scale import BNScale
from admm_exp.admm.groups import ChannelGroup, Member


def test_score_reads_the_scales_and_nothing_else():
    theta = torch.tensor([[9.0, -2.0, 9.0, 1.0], [0.0, 0.5, 0.0, -0.25]])
    group = ChannelGroup("conv", 2, 1, (Member(0, 0),), scale_columns=(1, 3))
    assert BNScale()(theta, group).tolist() == [3.0, 0.75]
