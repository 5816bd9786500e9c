import copy

import pytest
import torch
from torch import nn

from admm_exp.errors import ModelError
from admm_exp.pruning.dependency.graph import trace_groups
from admm_exp.pruning.dependency.sketch import FEW, Sketch


def described(model, example):
    return [
        (
            g.name,
            g.n_units,
            g.n_blocks,
            g.reason,
            [(s.name, s.dim, s.units.tolist()) for s in g.sites],
        )
        for g in trace_groups(model, example)
    ]


def convolutional():
    return nn.Sequential(
        *(nn.Conv2d(64, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU()),
        *(nn.ConvTranspose2d(96, 64, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(nn.Linear(256, 48), nn.GELU(), nn.Linear(48, 10)),
    )


def encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Linear(16, 32), layer, nn.LayerNorm(32), nn.Linear(32, 10))


NETWORKS = {"convolutional": (convolutional, (1, 64, 8, 8)), "encoder": (encoder, (2, 5, 16))}


@pytest.mark.parametrize("name", NETWORKS)
def test_sketched_products_leave_every_group_as_it_is(monkeypatch, name):
    make, shape = NETWORKS[name]
    model, example = make().eval(), torch.randn(shape)
    sketched = described(model, example)
    monkeypatch.setattr("admm_exp.pruning.dependency.sketch.FEW", 10**9)
    assert sketched == described(model, example)
    assert any(reason is None for _, _, _, reason, _ in sketched)


@pytest.mark.parametrize(("is_on", "n_read"), [(True, FEW), (False, 256)])
def test_a_sketched_product_reads_a_few_channels(is_on, n_read):
    seen = []

    def product(input, weight, bias):
        seen.append((input.shape, weight.shape))
        return torch.nn.functional.linear(input, weight, bias)

    layer = nn.Linear(256, 32)
    outputs = Sketch(is_on).product(product, torch.randn(5, 256), layer.weight, layer.bias, axis=-1)
    assert outputs.shape == (5, 32)
    assert seen == [((5, n_read), (32, n_read))]


def test_attention_that_is_followed_is_not_computed(monkeypatch):
    def attend(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attend)
    groups = trace_groups(encoder().eval(), torch.randn(2, 5, 16))
    assert "1.self_attn" in {group.name for group in groups if group.reason is None}


class Chooses(nn.Module):
    """Runs the second layer only where the first makes numbers in the range of the real ones."""

    def __init__(self, read):
        super().__init__()
        self.first, self.second, self.read = nn.Linear(64, 12), nn.Linear(12, 3), read
        nn.init.ones_(self.first.weight)

    def forward(self, x):
        y = self.first(x)
        if self.read(y):
            return self.second(y)
        return y[:, :3] * 0


READS = {
    "item": lambda y: y.mean().item() > 32,
    "bool": lambda y: y.mean() > 32,
    "tolist": lambda y: y[0].tolist()[0] > 32,
    "nonzero": lambda y: len((y > 32).nonzero()) > 0,
    "mask": lambda y: len(y[y > 32]) > 0,
    "numpy": lambda y: y.numpy()[0, 0] > 32,
}


@pytest.mark.parametrize("read", READS)
def test_a_network_that_reads_its_numbers_is_followed_with_the_right_ones(read):
    model = Chooses(READS[read]).eval()
    groups = {group.name: group.reason for group in trace_groups(model, torch.ones(2, 64))}
    assert groups["second"] == "its channels are the output of the network"


def test_a_wrong_input_is_refused_as_ever():
    with pytest.raises(ModelError, match="does not accept"):
        trace_groups(nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 3)), torch.randn(2, 48))


class Counts(nn.Module):
    """Counts its calls in a buffer, and reads numbers."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(64, 12), nn.Linear(12, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        y = self.layer(x)
        return self.last(y if y.sum() > 0 else -y)


def test_a_trace_that_begins_anew_leaves_the_buffers_as_they_were():
    model = Counts().eval()
    before = copy.deepcopy(model.state_dict())
    trace_groups(model, torch.randn(2, 64))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Heads(nn.Module):
    """Reshapes by attributes, as timm's attention does."""

    def __init__(self):
        super().__init__()
        self.n_heads, self.width = 4, 8
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x):
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.n_heads, self.width).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(*qkv.unbind(0))
        return self.out(y.transpose(1, 2).flatten(2))


def test_sizes_in_attributes_are_followed_without_a_second_run(monkeypatch):
    def run(*_):
        raise AssertionError("followed once more")

    monkeypatch.setattr("admm_exp.pruning.dependency.graph._run", run)
    groups = trace_groups(nn.Sequential(nn.Linear(16, 32), Heads()).eval(), torch.randn(1, 5, 16))
    assert any(group.reason is None for group in groups)
