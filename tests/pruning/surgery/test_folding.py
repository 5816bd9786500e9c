"""Channels that are a constant once removed: it is folded into the bias of the layer behind."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.errors import SurgeryError
from admm_exp.export.saved_model import load, save_model
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.dependency.graph import trace_groups
from admm_exp.pruning.dependency.traced import Site
from admm_exp.pruning.surgery.folding import fold_
from admm_exp.pruning.surgery.randomised import randomise_

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Affine(nn.Module):
    """One scale and one shift for all channels."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.scale * x + self.shift


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def convolutions(between, bias=True, **options):
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), between, nn.Conv2d(8, 6, 3, bias=bias, **options), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
    )


CONSTANT = {
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(),
    "cosine": Lambda(torch.cos),
    "affine": nn.Sequential(nn.ReLU(), Affine()),
    "plus_one": Lambda(lambda x: x + 1.0),
    "pooled": nn.Sequential(nn.Sigmoid(), nn.MaxPool2d(2)),
    "of_pixels": Lambda(lambda x: x.flatten(2).softmax(-1).view_as(x)),
}


def cut_of(model, inputs=IMAGES):
    torch.manual_seed(0)
    found = ConstrainedModel(
        randomise_(model).eval(), inputs, sparsity=0.5, metric=L2Norm(), rho=1e-3
    )
    randomise_(model, 1)
    found.update()
    masked = found.removal().masked().eval()
    small, _ = found.removal().finish(inputs)
    others = torch.randn(2, *inputs.shape[1:], generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = masked(others)
        torch.testing.assert_close(small.eval()(others), expected, rtol=1e-4, atol=1e-5)
    return found, small


def reasons(found):
    return {group.name: group.reason for group in found.prunable.kept}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CONSTANT)
def test_a_constant_moves_into_the_bias_of_a_convolution(name, bias):
    found, small = cut_of(convolutions(copy.deepcopy(CONSTANT[name]), bias))
    assert [group.name for group in found.groups] == ["0", "2"]
    assert small[2].weight.shape == (3, 4, 3, 3)
    assert small[2].bias.shape == (3,)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_that_repeats_pixels_keeps_a_constant(mode):
    found, _ = cut_of(convolutions(nn.Sigmoid(), padding=1, padding_mode=mode))
    assert "0" in {group.name for group in found.groups}


def test_padding_with_zeros_keeps_the_channels():
    found, _ = cut_of(convolutions(nn.Sigmoid(), padding=1))
    assert (
        reasons(found)["0"]
        == "its channels are not zero behind sigmoid in 1 (Sigmoid) once removed"
    )


def test_flattened_constants_move_into_a_linear_layer():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(8 * 36, 5, bias=False)
    )
    _, small = cut_of(model)
    assert small[3].weight.shape == (5, 4 * 36)


class Shared(nn.Module):
    """One layer reads what is a constant, and then what is none."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.a(x).sigmoid()
        return self.fc(self.b(h) + self.b(h * x.mean(1, keepdim=True)))


def test_what_differs_between_two_samples_is_not_folded():
    model = nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 4)
    )
    with pytest.raises(Exception, match=r"0: its channels are not zero behind 1 \(LayerNorm\)"):
        cut_of(model, torch.randn(1, 6))


def test_what_a_norm_without_scales_makes_of_zeros_is_no_constant():
    norm = nn.LayerNorm(8, elementwise_affine=False)
    model = nn.Sequential(nn.Linear(5, 8), norm, nn.Linear(8, 3))
    group = trace_groups(model, torch.randn(2, 5))[0]
    assert "not zero behind 1 (LayerNorm) once removed" in str(group.reason)
    assert not any(site.fold for site in group.sites)


def test_what_differs_between_two_calls_is_not_folded():
    found, _ = cut_of(Shared(), torch.randn(2, 6))
    assert "not zero behind sigmoid in the Shared" in reasons(found)["a"]


def test_what_one_sample_cannot_tell_from_a_constant_is_not_folded():
    model = nn.Sequential(nn.Linear(6, 3), nn.Sigmoid(), nn.Linear(3, 2))
    rows = torch.arange(3)
    site = Site("2", "weight", 1, False, 3, rows, rows, 1, fold="1 (Sigmoid)")
    is_gone = {"2": (site, torch.tensor([True, False, False]))}
    with pytest.raises(SurgeryError, match=r"not zero behind 1 \(Sigmoid\) once removed"):
        fold_(copy.deepcopy(model), model, is_gone, torch.randn(1, 6))


def test_a_network_with_folded_constants_trains_on_reloads_and_is_planned(tmp_path):
    model = convolutions(nn.Sigmoid(), bias=False)
    planned = Planner(model, IMAGES)
    assert planned.cut([4, 3])[2].bias.shape == (3,)
    found, small = cut_of(model)
    save_model(small, found.model, {"_target_": "mine"}, IMAGES, tmp_path)
    loaded = load(tmp_path, model=convolutions(nn.Sigmoid(), bias=False))
    assert torch.equal(loaded.eval()(IMAGES), small.eval()(IMAGES))
    F.cross_entropy(small.train()(IMAGES), torch.arange(3)).backward()
    assert small[2].bias.grad is not None
