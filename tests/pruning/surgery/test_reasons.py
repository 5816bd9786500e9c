"""Every reason for keeping a group names a layer, a tensor or a line of code."""

import re
from contextlib import suppress

import pytest
import torch
from support.grammar import Random
from support.networks import NETWORKS, build
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from admm_exp.errors import ModelError
from admm_exp.pruning.surgery.find import find_groups

NEEDS_NO_PLACE = re.compile(
    r"it does not run on the example input|its channels are (the output|output \d+) of the network"
)
"""What names the layer itself, or the end of the network."""
IMAGES = torch.randn(2, 3, 8, 8)


def placeless(model, inputs):
    """List the reasons that name no place, or an empty one."""
    names = [name for name, _ in [*model.named_modules(), *model.named_parameters()] if name]
    named = re.compile(r"(^|[ ,(])(" + "|".join(map(re.escape, names)) + r")(?=$|[ ,;)])")
    found = []
    for group in find_groups(model, inputs).kept:
        reason, empty = group.reason, re.search(r"^ | {2}|in$|in ,| , ", group.reason)
        has_place = named.search(reason) or re.search(r"\.py:\d+", reason)
        if empty or not (has_place or NEEDS_NO_PLACE.fullmatch(reason)):
            found.append(f"{group.name}: {reason}")
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_reason_of_the_tests_networks_names_a_place(name):
    assert placeless(*build(name)) == []


def test_every_reason_of_random_networks_names_a_place():
    for seed in range(200, 215):
        model = Random(seed).eval()
        with suppress(ModelError):
            assert placeless(model, model.inputs) == [], model.story()


class Ways(nn.Module):
    """A convolution, what `way` does to its channels, and convolutions behind."""

    def __init__(self, way, channels=8):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(6, 4, 1)
        self.head, self.way = nn.Conv2d(channels, 6, 3, padding=1), way
        self.register_buffer("table", torch.randn(1, 8, 8, 8))

    def forward(self, x):
        return self.c(F.relu(self.head(self.way(self, x, self.a(x)))))


WAYS = {
    "constant": lambda s, x, y: torch.cat([torch.ones(2, 4, 8, 8), y[:, 4:]], 1) + y,
    "constant_factor": lambda s, x, y: y * torch.rand(1, 8, 1, 1),
    "input": lambda s, x, y: y + torch.cat([x, x, x[:, :2]], 1),
    "table": lambda s, x, y: y * s.table,
    "computed": lambda s, x, y: F.conv2d(y, s.head.weight[:8, :, :1, :1].tanh() @ y[0, 0, :1, :1]),
    "tied": lambda s, x, y: y + y.transpose(1, 2),
    "position": lambda s, x, y: y[:, [1, 0, 3, 2, 5, 4, 7, 6]],
    "softmax": lambda s, x, y: y.softmax(1),
    "moved": lambda s, x, y: y.exp(),
    "padded": lambda s, x, y: F.pad(y, (0, 0, 0, 0, 1, 1))[:, 1:9],
    "literal": lambda s, x, y: y.reshape(2, 2, 4, 8, 8).transpose(1, 2).reshape(2, 8, 8, 8),
    "written": lambda s, x, y: y.index_copy(1, torch.tensor([0]), y[:, 3:4]),
    "means": lambda s, x, y: (y - y.mean(1, keepdim=True)) * x.mean(1, keepdim=True),
    "sorted": lambda s, x, y: y.sort(1)[0],
    "product": lambda s, x, y: (torch.randn(8, 8) @ y.flatten(2)).view_as(y),
}


@pytest.mark.parametrize("name", WAYS)
def test_every_reason_of_odd_code_names_a_place(name):
    with suppress(ModelError):
        assert placeless(Ways(WAYS[name]), IMAGES) == []


def test_a_constant_in_the_way_is_named_by_the_line_that_uses_it():
    found = find_groups(Ways(WAYS["constant"]), IMAGES)
    (reason,) = [group.reason for group in found.kept if group.name == "a"]
    assert reason.startswith("its channels are tied to a constant in the Ways in test_reasons.py:")
    assert "torch.ones(2, 4, 8, 8)" in reason


def test_outputs_are_told_apart_where_a_network_has_several():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)

        def forward(self, x):
            h = self.a(x).relu()
            return {"b": self.b(h), "c": self.c(h)}

    found = find_groups(Two(), torch.randn(2, 4))
    told = [f"its channels are output {i} of the network" for i in (1, 2)]
    assert [group.reason for group in found.kept] == told


def test_a_layer_of_one_channel_is_said_to_have_one():
    layers = [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.ReLU(), nn.Conv2d(1, 4, 1)]
    found = find_groups(nn.Sequential(*layers), IMAGES)
    assert found.kept[0].reason == "2 makes one channel alone"


def test_a_computed_weight_is_named_with_its_layer():
    layers = [nn.Conv2d(3, 8, 1), nn.ReLU(), weight_norm(nn.Conv2d(8, 6, 1)), nn.Conv2d(6, 4, 1)]
    found = find_groups(nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(4, 2, 1)), IMAGES)
    told = "2 (ParametrizedConv2d) computes its weight from other parameters"
    assert [group.reason for group in found.kept if group.name == "0"] == [told]
