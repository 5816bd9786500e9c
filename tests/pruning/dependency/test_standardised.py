"""Convolutions that standardise their weights: cut without loss, trained, exported, reloaded."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.export.saved_model import load, save_model
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.dependency.norms import counted_channels
from admm_exp.pruning.dependency.remembered import moments_without, standardised_rows
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.randomised import randomise_

IMAGES = torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(0))


class Standardised(nn.Conv2d):
    """Every row of the weight gets mean 0 and variance 1, and is scaled."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))
        self.scale = self.weight[0].numel() ** -0.5

    def forward(self, x):
        rows = self.weight.reshape(1, self.out_channels, -1)
        gain = (self.gain * self.scale).view(-1)
        rows = F.batch_norm(rows, None, None, weight=gain, training=True, momentum=0.0, eps=1e-6)
        weight = rows.reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Residual(nn.Module):
    """A stream, a branch of grouped and depthwise ones, classes."""

    def __init__(self):
        super().__init__()
        self.stem, self.reduce = Standardised(3, 12, 3), Standardised(12, 8, 1)
        self.grouped = Standardised(8, 8, 3, padding=1, groups=2)
        self.depthwise, self.grow = Standardised(8, 8, 3, padding=1, groups=8), None
        self.grow, self.fc = Standardised(8, 12, 1), nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        inner = self.grouped(self.reduce(x.relu()).relu()).relu()
        return self.fc((x + self.grow(self.depthwise(inner).relu())).relu().mean((2, 3)))


def cut(model, **options):
    found = ConstrainedModel(model, IMAGES, sparsity=0.5, metric=L2Norm(), rho=0.1, **options)
    found.update()
    masked = found.removal().masked().eval()
    small, _ = found.removal().finish(IMAGES)
    return found, masked, small.eval()


def test_rows_remember_the_moments_of_what_they_lost():
    weight = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    kept = torch.tensor([1, 0, 1, 1, 0, 0]).bool()
    rows = torch.tensor([1, 1, 0, 1]).bool()
    moments = moments_without(nn.Module(), weight, rows, kept, 1)
    left = weight[rows][:, kept].flatten(1)[None]
    got = standardised_rows(moments, 18, left, None, None, eps=1e-6)
    whole = F.batch_norm(weight.view(1, 4, 18), None, None, training=True, eps=1e-6)
    expected = whole.view(4, 6, 3)[rows][:, kept].flatten(1)[None]
    torch.testing.assert_close(got, expected)


def test_every_width_is_cut_without_loss():
    found, masked, small = cut(randomise_(Residual()))
    assert {group.name for group in found.groups} == {"stem", "reduce", "grouped"}
    assert [group.name for group in found.prunable.kept] == ["fc"]
    assert (small.stem.out_channels, small.reduce.weight.shape) == (6, (4, 6, 1, 1))
    assert small.grouped.weight.shape == (4, 2, 3, 3)
    assert counted_channels(small)["grouped"] == {"batch_norm -1": 36}
    with torch.no_grad():
        torch.testing.assert_close(small(IMAGES), masked(IMAGES), rtol=1e-4, atol=1e-5)


def test_what_was_cut_is_cut_again_without_loss():
    _, _, small = cut(randomise_(Residual()))
    _, masked, smaller = cut(small)
    assert smaller.reduce.weight.shape == (2, 3, 1, 1)
    assert smaller.reduce.removed_moments.shape == (2, 2)
    with torch.no_grad():
        torch.testing.assert_close(smaller(IMAGES), masked(IMAGES), rtol=1e-4, atol=1e-5)


def test_small_network_trains_on_and_is_exported():
    _, _, small = cut(randomise_(Residual()))
    before = copy.deepcopy(small.state_dict())
    optimizer = torch.optim.SGD(small.parameters(), 0.1)
    small.train()(IMAGES).square().sum().backward()
    optimizer.step()
    changed = {k for k, value in small.state_dict().items() if not torch.equal(value, before[k])}
    assert "grow.weight" in changed
    assert "grow.removed_moments" not in changed
    program = torch.export.export(small.eval(), (IMAGES,)).module()
    torch.testing.assert_close(program(IMAGES), small(IMAGES), rtol=1e-4, atol=1e-5)


def test_small_network_is_reloaded_with_what_it_remembers(tmp_path):
    model = randomise_(Residual())
    _, _, small = cut(model)
    save_model(small, model, {"_target_": "elsewhere.Residual"}, IMAGES, tmp_path)
    loaded = load(tmp_path, model).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(IMAGES), small(IMAGES))


def test_they_are_no_stream():
    found, _, _ = cut(randomise_(Residual()), keep_streams=True)
    assert {group.name for group in found.groups} == {"stem", "reduce", "grouped"}


@pytest.mark.parametrize("between", [torch.sigmoid, lambda x: x.cos()])
def test_inputs_that_are_not_zero_once_removed_stay(between):
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Standardised(3, 8, 3), Standardised(8, 6, 3)
            self.fc = nn.Linear(6, 5)

        def forward(self, x):
            return self.fc(self.b(between(self.a(x))).relu().mean((2, 3)))

    found = find_groups(randomise_(Shifted()), IMAGES)
    assert {group.name for group in found.groups} == {"b"}
    assert "its channels are not zero behind" in found.kept[0].reason
