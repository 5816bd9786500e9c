"""Layers and operations of networks that people prune, each cut without loss."""

import pytest
import torch
import torch.nn.functional as F
from support.halves import assert_halves, halved, prunable
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.surgery.find import find_groups

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1))


class Two(nn.Module):
    """conv a -> body -> conv b -> fc; tensors among the parts become buffers."""

    def __init__(self, body, **parts):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.fc, self.body = nn.Linear(12, 4), body
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, images):
        features = self.body(self, F.relu(self.a(images)))
        return self.fc(F.relu(self.b(features)).mean((2, 3)))


def frozen_norm():
    norm = FrozenBatchNorm2d(8)
    for tensor in (norm.weight, norm.running_var):
        tensor.uniform_(0.5, 1.5)
    for tensor in (norm.bias, norm.running_mean):
        tensor.uniform_(-1.0, 1.0)
    return norm


ONE, EACH = torch.rand(1, 1, 2, 2), torch.rand(8, 1, 2, 2)
BODIES = {
    "gate of one channel": (lambda m, y: y * m.g(y).sigmoid(), {"g": nn.Conv2d(8, 1, 1)}),
    "gate from the input": (lambda m, y: y * m.g, {"g": torch.rand(4, 1, 8, 8)}),
    "blur by one filter": (
        lambda m, y: F.conv2d(y, m.f.expand(y.shape[1], -1, -1, -1), groups=y.shape[1]),
        {"f": ONE},
    ),
    "blur by filters of a buffer": (
        lambda m, y: F.conv2d(y, m.f, stride=2, groups=m.channels),
        {"f": EACH, "channels": 8},
    ),
    "blur by a repeated filter": (
        lambda m, y: F.conv2d(y, m.f.repeat(m.channels, 1, 1, 1), groups=m.channels),
        {"f": ONE, "channels": 8},
    ),
    "fixed upsampling": (
        lambda m, y: F.conv_transpose2d(y, m.f, stride=2, groups=y.shape[1]),
        {"f": EACH},
    ),
    "frozen norm": (lambda m, y: m.norm(y), {"norm": frozen_norm()}),
    "scales in a buffer": (lambda m, y: y * m.s.view(1, -1, 1, 1), {"s": torch.rand(8)}),
    "constants in a buffer": (lambda m, y: y + m.s, {"s": torch.rand(1, 8, 1, 1)}),
    "where with a number": (lambda m, y: torch.where(y > 0.1, y, 0.0), {}),
    "where with a tensor": (lambda m, y: torch.where(y > 0.1, y, torch.zeros_like(y)), {}),
    "windows of pixels": (lambda m, y: y.unfold(2, 3, 1).unfold(3, 4, 2).amax((-2, -1)), {}),
    "stack in front": (lambda m, y: torch.stack([y, 2 * y]).sum(0), {}),
    "stack behind": (lambda m, y: torch.stack([y, m.c(y)], -1).mean(-1), {"c": nn.Conv2d(8, 8, 1)}),
    "stack between": (lambda m, y: torch.stack([y, m.c(y)], 2).amax(2), {"c": nn.Conv2d(8, 8, 1)}),
}


@pytest.mark.parametrize(("body", "parts"), BODIES.values(), ids=list(BODIES))
def test_channels_go_through(body, parts):
    assert_halves(Two(body, **parts), IMAGES, "a", "b")


def test_a_constant_that_is_not_zero_behind_where_keeps_the_channels():
    found = find_groups(Two(lambda m, y: torch.where(y > 0.1, y, 1.0)), IMAGES)
    assert [group.name for group in found.groups] == ["b"]


def test_numbers_of_a_frozen_norm_are_zero_where_units_are():
    pruner, masked, small = halved(Two(lambda m, y: m.norm(y), norm=frozen_norm()), IMAGES)
    gone = masked.a.weight.flatten(1).abs().sum(1) == 0
    assert int(gone.sum()) == 4
    assert not masked.norm.bias[gone].any()
    assert torch.equal(small.norm.bias, masked.norm.bias[~gone])
    assert prunable(pruner) == {"a", "b"}


@pytest.mark.parametrize("tail", [nn.Identity(), nn.Fold((8, 8), 2)], ids=["im2col", "and back"])
def test_windows_laid_side_by_side_are_followed(tail):
    last = nn.Conv1d(32, 5, 1) if isinstance(tail, nn.Identity) else nn.Conv2d(8, 5, 1)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Unfold(2), tail, last)
    assert_halves(model, IMAGES, "0")


class Product(nn.Module):
    """Features times a parameter, in one of the ways in which people write it."""

    def __init__(self, multiply):
        super().__init__()
        self.w, self.v = (
            nn.Parameter(torch.rand(8, 32) - 0.5),
            nn.Parameter(torch.rand(32, 8) - 0.5),
        )
        self.bias, self.fc, self.multiply = nn.Parameter(torch.rand(32)), nn.Linear(32, 5), multiply

    def forward(self, tokens):
        return self.fc(F.relu(self.multiply(self, tokens)))


PRODUCTS = {
    "x @ w": ("w", lambda m, x: x @ m.w + m.bias),
    "addmm": ("w", lambda m, x: torch.addmm(m.bias, x.flatten(0, 1), m.w).view(4, 6, -1)),
    "linear": ("v", lambda m, x: F.linear(x, m.v, m.bias)),
    "linear, turned": ("w", lambda m, x: F.linear(x, m.w.t(), m.bias)),
    "matmul, turned": ("v", lambda m, x: torch.matmul(x, m.v.T)),
    "w @ x": ("v", lambda m, x: (m.v @ x.transpose(1, 2)).transpose(1, 2)),
    "einsum": ("w", lambda m, x: torch.einsum("bnc,cd->bnd", x, m.w)),
    "einsum, turned": ("v", lambda m, x: torch.einsum("bnc,dc->bnd", x, m.v)),
    "tensordot": ("w", lambda m, x: torch.tensordot(x, m.w, dims=1)),
}


@pytest.mark.parametrize(("name", "multiply"), PRODUCTS.values(), ids=list(PRODUCTS))
def test_a_parameter_that_features_are_multiplied_with_is_a_layer(name, multiply):
    small = assert_halves(Product(multiply), TOKENS, name)
    assert sorted(getattr(small, name).shape) == [8, 16]


def test_a_parameter_used_both_ways_loses_the_channels_between():
    class Tied(Product):
        def forward(self, tokens):
            return (F.relu(tokens @ self.w) @ self.w.t()).sum(1)

    assert_halves(Tied(None), TOKENS, "w")


def test_a_layer_whose_channels_are_all_tied_to_the_input_stays():
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3, groups=3), nn.ReLU(), nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    found = find_groups(model, IMAGES)
    assert [group.name for group in found.groups] == ["2"]
    assert found.kept[0].reason == "its channels are tied to the input of the network in 0"


def test_a_parameter_of_the_network_itself_has_a_row_in_the_plan():
    planner = Planner(Product(PRODUCTS["x @ w"][1]), TOKENS)
    assert [group.producers for group in planner.prunable.groups] == [("w",)]
    assert planner.cost([16]).macs < planner.dense.macs


class Cells(nn.Module):
    def __init__(self, kind, state):
        super().__init__()
        self.cell, self.fc, self.hidden, self.state = kind(8, 16), nn.Linear(16, 4), 16, state

    def forward(self, tokens):
        state = self.state(self, tokens)
        for step in tokens.unbind(1):
            state = self.cell(step, state)
        return self.fc(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (nn.LSTMCell, lambda m, x: None),
        (nn.LSTMCell, lambda m, x: (x.new_zeros(len(x), m.hidden),) * 2),
        (nn.GRUCell, lambda m, x: torch.zeros(len(x), m.hidden)),
        (nn.RNNCell, lambda m, x: None),
    ],
)
def test_cells_are_cut(kind, state):
    small = assert_halves(Cells(kind, state), TOKENS, "cell")
    assert small.cell.hidden_size == 8


def test_packed_sequences_are_followed():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc = nn.Linear(8, 12), nn.Linear(32, 4)
            self.lstm = nn.LSTM(12, 16, batch_first=True, bidirectional=True)

        def forward(self, tokens):
            packed = nn.utils.rnn.pack_padded_sequence(
                F.relu(self.embed(tokens)), torch.tensor([3, 6, 5, 2]), True, False
            )
            outputs, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], True)
            return self.fc(outputs.sum(1))

    assert_halves(Packed(), TOKENS, "embed", "lstm")


class Scores(nn.Module):
    """Weights of positions, the same for all channels."""

    def __init__(self, kind):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 16) for _ in range(3))
        self.score, self.fc, self.kind = nn.Linear(16, 1), nn.Linear(16, 4), kind

    def forward(self, x):
        values = self.v(x)
        if self.kind == "pooling":
            return self.fc((self.score(values).softmax(1) * values).sum(1))
        weights = self.score(torch.tanh(self.q(x[:, :1]) + self.k(x))).transpose(1, 2).softmax(-1)
        return self.fc(torch.bmm(weights, values).squeeze(1))


@pytest.mark.parametrize(("kind", "groups"), [("pooling", "v"), ("additive", "qv")])
def test_scores_of_positions_tie_no_channels(kind, groups):
    assert_halves(Scores(kind), TOKENS, *groups)


def test_a_bias_joined_from_parameters_and_a_buffer_is_followed():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Linear(8, 48, bias=False)
            self.q, self.v = nn.Parameter(torch.rand(16)), nn.Parameter(torch.rand(16))
            self.register_buffer("k", torch.zeros(16))
            self.num_heads, self.fc = 4, nn.Linear(16, 5)

        def forward(self, x):
            bias = torch.cat((self.q, self.k, self.v))
            joint = F.linear(x, self.weight.weight, bias).reshape(
                *x.shape[:2], 3, self.num_heads, -1
            )
            y = F.scaled_dot_product_attention(*joint.permute(2, 0, 3, 1, 4))
            return self.fc(y.transpose(1, 2).flatten(2))

    small = assert_halves(Joined(), TOKENS, "weight")
    assert len(small.k) == 8
