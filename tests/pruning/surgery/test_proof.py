import copy

import pytest
import torch
import torch.nn.functional as F
from support.networks import randomise_
from torch import nn

from admm_exp.errors import ConfigError, ModelError, SurgeryError
from admm_exp.pruning.surgery import find, proof, randomised
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.proof import _drawn
from admm_exp.pruning.surgery.sparsities import group_sparsities
from admm_exp.pruning.surgery.surgery import compare, cut, max_abs_difference, zero_


class Attention(nn.Module):
    """Scaled dot products with 4 heads of width 8 and a bias on the logits."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x, bias):
        n, t, _ = x.shape
        q, k, v = (f(x).view(n, t, -1, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.o(y.transpose(1, 2).reshape(n, t, -1))


class SharedBias(nn.Module):
    """Two attentions that add one learnt bias to their logits."""

    def __init__(self):
        super().__init__()
        self.bias, self.a, self.b = nn.Parameter(torch.randn(1, 4, 6, 6)), Attention(), Attention()
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = x + self.a(x, self.bias)
        return self.fc((x + self.b(x, self.bias)).mean(1))


def groups_of(model, inputs):
    return {group.name: group for group in find_groups(model, inputs).groups}


def test_heads_of_attentions_that_share_a_bias_live_and_die_together():
    group = groups_of(randomise_(SharedBias()), torch.randn(2, 6, 32))["a.q"]
    assert {"a.q", "a.k", "a.v", "b.q", "b.k", "b.v"} <= set(group.producers)
    assert ("bias", 1) in {(name, dim) for name, dim, _ in group.parts}
    assert group.n_units == 4


class FixedBias(SharedBias):
    def __init__(self):
        super().__init__()
        del self.bias
        self.register_buffer("bias", torch.randn(1, 4, 6, 6))


def test_heads_with_a_fixed_bias_each_stay():
    with pytest.raises(ModelError, match=r"a\.q: .*adds a constant of its own to every head"):
        find_groups(FixedBias(), torch.randn(2, 6, 32))


def test_groups_of_one_size_draw_units_and_a_share_of_their_own():
    model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(3)))
    first, second = _drawn(find_groups(model, torch.randn(2, 32)).groups)
    assert 0 < first.sum() != second.sum() > 0
    assert not torch.equal(first, second)


def test_groups_of_one_size_keep_two_fifths_and_one_unit_more_each():
    model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(4)))
    support = _drawn(find_groups(model, torch.randn(2, 32)).groups)
    assert [int(kept.sum()) for kept in support] == [12, 13, 14]


def test_proof_draws_weights_that_carry_a_constant_through_many_layers():
    layers = [layer for _ in range(8) for layer in (nn.Linear(64, 64), nn.ReLU())]
    model = randomised.randomise_(nn.Sequential(*layers, nn.Linear(64, 10)))
    groups = list(find_groups(model, images := torch.randn(4, 64)).groups)
    support = _drawn(groups)
    masked = zero_(model, groups, support)
    small = cut(masked, groups, support)
    model[0].bias.data[~support[0]] = 0.5  # what a group that was found wrong would leave
    assert compare(masked, small, images).relative > 10 * proof.TOLERANCE


class Scaled(nn.Module):
    def __init__(self, network, scale, shift=0.0):
        super().__init__()
        self.network, self.scale, self.shift = network, scale, shift

    def forward(self, inputs):
        outputs = self.network(inputs)
        return self.scale * torch.cat([outputs[:, :1] + self.shift, outputs[:, 1:]], 1)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_difference_is_judged_by_the_spread_of_the_outputs(scale):
    torch.manual_seed(0)
    network, inputs = nn.Linear(4, 5), torch.randn(16, 4)
    max_abs_difference(Scaled(network, scale), Scaled(network, scale, 1e-4), inputs)
    with pytest.raises(SurgeryError, match="of the spread of the outputs"):
        max_abs_difference(Scaled(network, scale), Scaled(network, scale, 1e-2), inputs)


def test_relative_difference_is_the_largest_over_the_outputs_each_by_its_own_spread():
    class Two(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, x):
            return 1e3 * x, 1e-3 * x + self.shift

    found = compare(Two(0.0), Two(1e-3), torch.randn(1000))
    assert found.absolute == pytest.approx(1e-3, rel=1e-3)
    assert found.relative == pytest.approx(1.0, rel=0.1)


def test_nan_outputs_of_the_network_itself_are_called_that():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].bias[0] = float("nan")
    with pytest.raises(SurgeryError, match="NaN before anything is cut"):
        max_abs_difference(model, model, torch.randn(3, 4))


def test_infinite_outputs_must_be_infinite_in_both_networks():
    class Blocked(nn.Module):
        def __init__(self, column):
            super().__init__()
            self.column = column

        def forward(self, x):
            return x.index_fill(1, torch.tensor([self.column]), float("-inf"))

    inputs = torch.randn(8, 4)
    assert max_abs_difference(Blocked(1), Blocked(1), inputs) == 0.0
    with pytest.raises(SurgeryError):
        max_abs_difference(Blocked(1), Blocked(2), inputs)


class WidthFromShape(nn.Module):
    """Heads whose joint width the code reads off the stream around them."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.o = nn.Linear(6, 32), nn.Linear(32, 96), nn.Linear(32, 32)
        self.fc = nn.Linear(32, 5)

    def attend(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, -1, 8).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v
        return self.o(y.transpose(1, 2).reshape(n, t, c))

    def forward(self, x):
        x = self.embed(x)
        return self.fc(x + self.attend(x))


def test_groups_whose_sizes_the_code_compares_shrink_in_step():
    model, inputs = randomise_(WidthFromShape()), torch.randn(2, 6, 6)
    groups = groups_of(model, inputs)
    assert set(groups) == {"embed", "qkv"}
    assert all(group.steps.n_steps == 4 for group in groups.values())
    for sparsity in (0.2, 0.3, 0.5, 0.8):
        pairs = [(group, group.count_kept(sparsity)) for group in groups.values()]
        support = [torch.arange(group.n_units) < n for group, n in pairs]
        masked = zero_(copy.deepcopy(model), list(groups.values()), support)
        small = cut(masked, list(groups.values()), support)
        assert compare(masked, small, inputs).relative < 1e-5


class OneCounted(WidthFromShape):
    """The same width, read off channels that the code counts by hand, and off the others too."""

    def attend(self, x):
        n, t, _ = x.shape
        assert x.shape[-1] == 32
        q, k, v = self.qkv(x).view(n, t, 3, -1, 8).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v
        return self.o(y.transpose(1, 2).reshape(n, t, -1))


def test_a_group_that_cannot_shrink_in_step_shrinks_by_itself():
    groups = groups_of(randomise_(OneCounted()), torch.randn(2, 6, 6))
    assert {name: group.steps for name, group in groups.items()} == {"qkv": None}


class WidthOfHeads(WidthFromShape):
    """Twice attention that scales by the width of the stream, divided among its heads."""

    def __init__(self):
        super().__init__()
        self.heads, self.second = 4, nn.ModuleList([nn.Linear(32, 96), nn.Linear(32, 32)])

    def attend(self, x):
        for qkv, out in ((self.qkv, self.o), self.second):
            n, t, c = x.shape
            heads = qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            q, k, v = heads
            y = (q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5).softmax(-1) @ v
            x = x + out(y.transpose(1, 2).reshape(n, t, c))
        return x


def test_heads_in_place_of_their_widths_are_proven_without_a_search(monkeypatch):
    def search(*args):
        raise AssertionError("parts of the groups are tried")

    monkeypatch.setattr(proof.Probe, "culprits", search)
    groups = groups_of(randomise_(WidthOfHeads()), torch.randn(2, 6, 6))
    assert {name: group.n_units for name, group in groups.items()} == {
        "embed": 32,
        "qkv": 4,
    }


class HeadsAndCount(WidthOfHeads):
    """The same beside a layer whose channels the code counts by hand."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 7), nn.Linear(7, 6)

    def forward(self, x):
        x = self.first(x)
        assert x.shape[-1] == 7
        return super().forward(self.last(x))


def noted(monkeypatch, module, name):
    """Note what a function is called with; what is noted keeps it alive, and its id its own."""
    calls, function = [], getattr(module, name)

    def call(*args, **settings):
        calls.append((args, settings))
        return function(*args, **settings)

    monkeypatch.setattr(module, name, call)
    return calls


def test_a_question_sees_the_constants_that_the_one_before_set_to_zero():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = (nn.Linear(8, 8) for _ in range(3))
            self.register_buffer("scale", torch.linspace(1.0, 2.0, 8))

        def forward(self, x):
            return self.last(self.second(self.first(x) * self.scale))

    model, inputs = Scaled(), torch.randn(2, 8)
    first, second = find_groups(model, inputs).groups
    probe = proof.Probe(model, inputs)
    probe.failure([first])
    assert (probe.network.scale == 0).any()
    probe.failure([second])
    assert torch.equal(probe.network.scale, model.scale)


def test_a_question_does_not_see_what_a_network_kept_of_the_one_before():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = (nn.Linear(8, 8) for _ in range(3))
            self.scale, self.kept = nn.Parameter(torch.ones(8)), None

        def train(self, mode=True):  # as LeViT, also where it does not change the mode
            self.kept = None
            return super().train(mode)

        def forward(self, x):
            self.kept = self.scale * 2 if self.kept is None else self.kept
            return self.last(self.second(self.first(x) * self.kept))

    model, inputs = Keeps(), torch.randn(2, 8)
    first, second = find_groups(model, inputs).groups
    probe = proof.Probe(model, inputs)
    assert probe.failure([second]) is None
    assert probe.failure([first]) is None


def test_no_question_is_asked_twice_of_a_network(monkeypatch):
    asked = noted(monkeypatch, proof.Probe, "_failure")
    traced = noted(monkeypatch, find, "trace_groups")
    groups_of(randomise_(HeadsAndCount()), torch.randn(2, 6, 6))
    keys = [(id(probe), probe._asked(groups)) for (probe, groups), _ in asked]
    assert len(keys) == len(set(keys)) > 2
    traces = [(id(args[0]), *args[2:], *settings.values()) for args, settings in traced]
    assert len(traces) == len(set(traces)) > 1


def test_groups_in_step_need_one_sparsity():
    found = find_groups(randomise_(WidthFromShape()), torch.randn(2, 6, 6))
    assert group_sparsities(found, 0.0, {"qkv": 0.5}) == (0.5, 0.5)
    with pytest.raises(ConfigError, match=r"\(embed, o, qkv\) need one sparsity"):
        group_sparsities(found, 0.0, {"qkv": 0.5, "embed": 0.25})


def test_channel_multiple_holds_for_every_group_in_step():
    groups = groups_of(randomise_(WidthFromShape()), torch.randn(2, 6, 6))
    for sparsity in (0.7, 0.8):  # two of four steps, and one step, which leaves 8 channels
        assert [group.count_kept(sparsity, 16) for group in groups.values()] == [16, 2]


def test_no_two_rows_and_no_two_parameters_are_randomised_alike():
    model = nn.Sequential(nn.Linear(1200, 900), nn.Linear(900, 1200), nn.Conv2d(16, 16, 3))
    model[2].to(memory_format=torch.channels_last)
    randomised.randomise_(model)
    assert len(model[0].weight.detach().unique(dim=0)) == 900
    assert len(model[1].weight.detach().unique(dim=1).T) == 900
    first = [parameter.detach().flatten()[:16] for parameter in model.parameters()]
    assert len({tuple(values.sign().tolist()) for values in first}) == len(first)


def test_network_keeps_its_numbers_when_it_is_proven():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_groups(model, torch.randn(2, 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
