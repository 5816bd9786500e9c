import math
from functools import partial

import pytest
import torch
from torch import nn

from admm_exp.pruning.dependency.outputs import difference
from admm_exp.pruning.surgery import proof, randomised
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.inside import EVERY, Inside, noted

WIDTH = 16


def linear_chain(depth, activation):
    layers = [layer for _ in range(depth) for layer in (nn.Linear(WIDTH, WIDTH), activation())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 3)), torch.randn(4, WIDTH)


def conv_chain(depth, activation, transposed=False):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layers = [m for _ in range(depth) for m in (kind(WIDTH, WIDTH, 3, padding=1), activation())]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, 3, 4)), torch.randn(2, WIDTH, 4, 4)


class Residual(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.stem, self.fc = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
            for _ in range(depth)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.fc(x)


def failure_when_planted(monkeypatch, model, inputs, bias):
    """Ask for all groups, which are right, with a constant left in the removed channels of one."""
    groups = list(find_groups(model, inputs).groups)
    zero_, layer = proof.zero_, bias.rpartition(".")[0]

    def plant_(network, groups, support):
        pairs = zip(groups, support, strict=True)
        kept = next(kept for group, kept in pairs if any(s.layer == layer for s in group.sites))
        zero_(network, groups, support).get_parameter(bias).data[~kept] = 0.5
        return network

    monkeypatch.setattr(proof, "zero_", plant_)
    return proof.Probe(model, inputs).failure(groups)


@pytest.mark.parametrize("depth", [16, 32, 64, 100])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
@pytest.mark.parametrize("chain", [linear_chain, conv_chain])
def test_constant_in_the_first_of_many_layers_is_seen(monkeypatch, chain, activation, depth):
    failure = failure_when_planted(monkeypatch, *chain(depth, activation), "0.bias")
    assert "its cut would change" in failure


def test_constant_in_front_of_many_layers_that_flatten_what_they_are_given_is_seen(monkeypatch):
    failure = failure_when_planted(monkeypatch, *linear_chain(16, nn.Sigmoid), "0.bias")
    assert "its cut would change what 8 (Linear) makes by" in failure


def test_constant_in_the_first_of_many_transposed_convolutions_is_seen(monkeypatch):
    chain = conv_chain(32, nn.GELU, transposed=True)
    failure = failure_when_planted(monkeypatch, *chain, "0.bias")
    assert "its cut would change what 8 (ConvTranspose2d) makes by" in failure


def test_constant_behind_a_norm_that_does_not_standardise_is_seen(monkeypatch):
    def normed():
        return nn.Sequential(nn.BatchNorm1d(WIDTH), nn.GELU())

    failure = failure_when_planted(monkeypatch, *linear_chain(32, normed), "1.0.bias")
    assert "its cut would change what 8 (Linear) makes by" in failure


@pytest.mark.parametrize("depth", [16, 100])
def test_constant_in_front_of_many_residual_blocks_is_seen(monkeypatch, depth):
    model, inputs = Residual(depth), torch.randn(4, WIDTH)
    assert "its cut would change" in failure_when_planted(monkeypatch, model, inputs, "stem.bias")


class Wakes(nn.Module):
    """Gives channels that are zero for all inputs a number, which no trace can see."""

    def forward(self, x):
        dead = [i for i, channel in enumerate(x.T.tolist()) if not any(channel)]
        return x.index_fill(1, torch.tensor(dead), 0.5) if dead else x


def test_a_wrong_group_in_front_of_a_long_chain_stays_and_says_where_it_shows():
    model, inputs = linear_chain(48, nn.GELU)
    model.insert(1, Wakes())
    found = find_groups(model, inputs)
    reasons = {group.name: group.reason for group in found.kept}
    assert len(found.groups) == 47
    assert reasons["0"].startswith("its cut would change what 9 (Linear) makes by ")
    assert reasons["0"].endswith(" %")


@pytest.mark.parametrize("seed", range(3))
def test_no_right_group_of_a_long_chain_is_refused(monkeypatch, seed):
    monkeypatch.setattr(proof, "randomise_", partial(randomised.randomise_, seed=seed))
    for depth, chain in ((100, linear_chain(100, nn.ReLU)), (32, conv_chain(32, nn.Tanh))):
        assert len(find_groups(*chain).groups) == depth


@torch.no_grad()
def noted_once(network, inputs):
    with noted(network, True) as made:
        network(inputs)
    return made


def test_every_fifth_layer_is_noted_and_a_second_run_begins_anew():
    model, inputs = linear_chain(11, nn.ReLU)
    with noted(model, True) as made:
        model(inputs)
        model(inputs)
    assert [name for name, _ in made] == [str(2 * EVERY - 2), str(4 * EVERY - 2)]
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_no_number_inside_of_both_networks_is_no_difference():
    model, _ = linear_chain(EVERY, nn.ReLU)
    made = noted_once(model, torch.full((2, WIDTH), math.nan))
    ones = [(name, torch.ones_like(output)) for name, output in made]
    inside = Inside([], [], 1e-4)
    assert made[0][1].isnan().all()
    assert inside.difference(model, made, made) is None
    assert inside.difference(model, made, ones).relative == math.inf


def test_layers_behind_another_way_through_the_network_are_not_compared():
    model, inputs = linear_chain(EVERY, nn.ReLU)
    [(_, output)] = noted_once(model, inputs)
    inside = Inside([], [], 1e-4)
    assert inside.difference(model, [("a", output)], [("b", 2 * output)]) is None
    assert inside.difference(model, [("a", output)], [("a", 2 * output)]).layer == "a"


def test_anything_differs_from_nothing_but_zeros():
    assert difference(torch.zeros(3), torch.ones(3)).relative == math.inf
    assert difference(torch.zeros(3), torch.zeros(3)).relative == 0.0


class Gated(nn.Linear):
    def forward(self, x):
        values, gates = super().forward(x).chunk(2, -1)
        return values * gates.sigmoid()


def test_layers_that_make_other_than_the_rows_of_their_weights_are_not_taken_apart():
    model, inputs = linear_chain(EVERY + 1, nn.ReLU)
    model[2 * EVERY - 2] = Gated(WIDTH, 2 * WIDTH)
    found = find_groups(model, inputs)
    assert [len(found.groups), len(found.kept)] == [EVERY + 1, 1]
