"""Every layer with weights is in a group, or is listed as kept with a reason."""

import re
from contextlib import suppress

import pytest
import torch
from support.grammar import Random
from support.networks import NETWORKS, build
from torch import nn

from admm_exp.errors import ModelError
from admm_exp.pruning.surgery.find import find_groups

LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding, nn.RNNBase, nn.RNNCellBase, nn.Bilinear)
LAYERS = (*LAYERS, nn.MultiheadAttention)


def unlisted(model, inputs):
    """Name the layers with weights that are nowhere, and those that are kept without a reason."""
    found = find_groups(model, inputs)
    listed = {name for group in (*found.groups, *found.kept) for name in group.producers}
    listed |= {site.layer for group in found.groups for site in group.sites}
    names = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    inside = [name for name in names if name.rpartition(".")[0] in listed]  # of an attention
    told = [group.name for group in found.kept if not re.search(r"\w{3}", group.reason)]
    return [name for name in names if name not in listed and name not in inside] + told


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_of_the_tests_networks_is_listed(name):
    assert unlisted(*build(name)) == []


def test_every_layer_of_random_networks_is_listed():
    for seed in range(100, 115):
        model = Random(seed).eval()
        with suppress(ModelError):  # nothing to prune, and a reason for every layer
            assert unlisted(model, model.inputs) == [], model.story()


class Aside(nn.Module):
    """One layer never runs, one is a weight of something else."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.idle = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.a(x).relu())


def test_a_layer_that_does_not_run_is_listed_as_that():
    found = find_groups(Aside(), torch.randn(2, 4))
    (reason,) = [group.reason for group in found.kept if group.name == "idle"]
    assert reason == "it does not run on the example input"


@pytest.mark.slow
def test_every_layer_of_quick_families_of_timm_is_listed():
    timm = pytest.importorskip("timm")
    from admm_exp.bench.timm_families import FAMILIES, smallest_size

    for name in list(FAMILIES.values())[::4]:
        model = timm.create_model(name, num_classes=10).eval()
        if sum(p.numel() for p in model.parameters()) < 2e7:
            pixels = smallest_size(model)
            assert unlisted(model, torch.randn(1, 3, pixels, pixels)) == [], name
