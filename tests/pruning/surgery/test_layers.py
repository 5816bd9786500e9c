import pytest
import torch
from support.networks import build
from torch import nn

from admm_exp.admm.partitions.block import Block
from admm_exp.admm.partitions.element import Element
from admm_exp.admm.partitions.filter import Filter
from admm_exp.admm.partitions.kernel import Kernel
from admm_exp.admm.partitions.n_of_m import NOfM
from admm_exp.errors import ModelError
from admm_exp.pruning.surgery.layers import find_layers


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.up = nn.ConvTranspose2d(8, 4, 2)
        self.unused = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = self.up(self.grouped(self.norm(self.conv(x)).relu()))
        return self.fc(x.mean(dim=(2, 3)))


INPUT = torch.zeros(1, 3, 8, 8)


def found(model, partition, inputs=INPUT):
    prunable = find_layers(model, inputs, partition)
    return (
        {g.name: (g.n_units, g.n_blocks) for g in prunable.groups},
        {g.name: g.reason for g in prunable.kept},
    )


def test_all_weights_that_run_are_divided_and_no_bias_or_norm():
    units, kept = found(Net(), Element())
    assert units == {"conv": (216, 1), "grouped": (288, 1), "up": (128, 1), "fc": (20, 1)}
    assert kept == {"unused": "it does not run"}
    parameters = [g.parts[0][0] for g in find_layers(Net(), INPUT, Element()).groups]
    assert parameters == ["conv.weight", "grouped.weight", "up.weight", "fc.weight"]


def test_layers_that_do_not_divide_stay_whole_with_the_reason():
    units, kept = found(Net(), NOfM(4))
    assert units == {"grouped": (288, 72), "up": (128, 32), "fc": (20, 5)}
    assert kept["conv"] == "its 3 inputs are no multiple of 4"
    units, kept = found(Net(), Kernel())
    assert units == {"conv": (24, 1), "grouped": (32, 1), "up": (32, 1)}
    assert kept["fc"] == "its kernels are single weights"


def test_transposed_convolutions_are_counted_by_their_outputs():
    units, kept = found(Net(), Block(4, 8))
    assert units == {"up": (4, 1)}  # (out, in) = (4, 8) at four places, stored as (8, 4, 2, 2)
    assert kept["grouped"] == "its 8 x 4 matrix does not divide into blocks of 4 x 8"


def test_filters_of_the_last_layer_stay_because_they_are_the_outputs():
    units, kept = found(Net(), Filter())
    assert units == {"conv": (8, 1), "grouped": (8, 1), "up": (4, 1)}
    assert kept["fc"] == "its filters are the outputs of the network"


def test_shared_frozen_and_computed_weights_stay_whole():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    nn.utils.parametrizations.weight_norm(model[3])
    units, kept = found(model, Element(), torch.zeros(1, 4))
    assert units == {"4": (16, 1)}
    assert kept == {
        "0": "it shares its weight with another layer",
        "1": "it shares its weight with another layer",
        "2": "it is frozen",
        "3": "it computes its weight from other parameters",
    }


def test_looking_leaves_the_model_as_it_was():
    model, inputs = build("residual")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    find_layers(model, inputs, Element())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_model_without_such_units_is_refused_with_the_reasons():
    mlp = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ModelError, match=r"no kernels to prune \(0: its kernels are single we"):
        find_layers(mlp, torch.zeros(1, 6), Kernel())
    with pytest.raises(ModelError, match="holds no convolution or linear layer"):
        find_layers(nn.Sequential(nn.ReLU()), torch.zeros(1, 6), Element())


def test_an_example_that_does_not_fit_is_refused():
    with pytest.raises(ModelError, match=r"does not accept an example input of shape \(1, 7\)"):
        find_layers(nn.Sequential(nn.Linear(6, 4)), torch.zeros(1, 7), Element())
