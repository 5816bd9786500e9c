import pytest
import torch
from support.networks import NETWORKS, build
from torch import nn

from admm_exp.admm.groups import count_kept
from admm_exp.admm.metrics import L2Norm
from admm_exp.pruning.budget.planner import Planner, sparsity_of
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.cost import count_cost
from admm_exp.pruning.surgery.sparsities import LayerSettings


@pytest.mark.parametrize("name", NETWORKS)
def test_planned_cost_is_that_of_the_network_that_is_really_cut(name):
    model, inputs = build(name)
    plan = Planner(model, inputs).plan(LayerSettings(0.5, {}))
    constrained = ConstrainedModel(model, inputs, sparsity=0.5, metric=L2Norm(), rho=1.0)
    small, _ = constrained.removal().finish(inputs)
    cost = count_cost(small, inputs)
    assert (plan.planned.macs, plan.planned.params) == (cost.macs, cost.params)
    assert plan.dense.macs == count_cost(model, inputs).macs


class Shared(nn.Module):
    """Two layers with one weight, between two others."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(n, m) for n, m in ((6, 8), (8, 8), (8, 8), (8, 3))))
        self.layers[2].weight = self.layers[1].weight

    def forward(self, inputs):
        return self.layers(inputs)


def test_shared_weight_is_counted_and_cut_once():
    plan = Planner(Shared(), torch.randn(2, 6)).plan(LayerSettings(0.5, {}))
    shared = {group.name: group for group in plan.groups}
    assert plan.dense.params == 8 * 7 + 8 * 8 + 2 * 8 + 3 * 9
    assert {group.kept for group in shared.values()} == {4}
    assert plan.planned.params == 4 * 7 + 4 * 4 + 2 * 4 + 3 * 5


def test_channels_that_a_layer_makes_twice_are_planned_as_the_file_says():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(6, 8, proj_size=4, batch_first=True)
            self.fc = nn.Linear(4, 3)

        def forward(self, inputs):
            return self.fc(self.rnn(inputs)[0][:, -1])

    by_layer = {"rnn": 0.5, "rnn.weight_hr_l0": 0.25}
    plan = Planner(Network(), torch.randn(2, 5, 6)).plan(LayerSettings(0.0, by_layer))
    assert {group.name: (group.kept, group.tied) for group in plan.groups} == {
        "rnn": (4, ()),
        "rnn.weight_hr_l0": (3, ()),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_that_are_cut_hold_no_numbers(name):
    planner = Planner(*build(name))
    small = planner.cut([group.n_units // 2 for group in planner.prunable.groups])
    assert all(tensor.is_meta for tensor in small.parameters())


def test_rows_of_a_plan_are_those_of_a_hand_count():
    plan = Planner(*build("mlp")).plan(LayerSettings(0.5, {"0": 0.25}))
    first, second = plan.groups
    assert (first.channels, first.kept, second.channels, second.kept) == (16, 12, 10, 5)
    assert (first.params, first.planned_params) == (16 * 7, 12 * 7)
    assert (second.params, second.planned_params) == (10 * 17, 5 * 13)
    assert (second.macs, second.planned_macs) == (160, 60)
    assert plan.planned.params == 12 * 7 + 5 * 13 + 5 * 6


def test_planning_leaves_the_network_alone():
    model, inputs = build("residual")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Planner(model.train(), inputs).plan(LayerSettings(0.5, {}))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rounded_counts_are_written_as_sparsities_that_give_them():
    plan = Planner(*build("mlp")).plan(LayerSettings(0.4, {}), channel_multiple=8)
    assert [group.kept for group in plan.groups] == [8, 8]
    assert [count_kept(group.channels, group.sparsity) for group in plan.groups] == [8, 8]


@pytest.mark.parametrize("n_units", [1, 3, 7, 10, 64, 1000, 12345])
def test_sparsity_of_a_count_gives_the_count_back(n_units):
    counts = range(1, n_units + 1, max(1, n_units // 50))
    assert [count_kept(n_units, sparsity_of(n_units, n)) for n in counts] == list(counts)


def test_plan_that_is_asked_for_again_is_not_made_again():
    planner = Planner(Shared(), torch.randn(2, 6))
    first = planner.plan(LayerSettings(0.5, {}))
    others = planner.plan(LayerSettings(0.25, {})), planner.plan(LayerSettings(0.5, {}), 8)
    assert planner.plan(LayerSettings(0.5, {})) is first
    assert all(other != first for other in others)


def test_residual_streams_stay_whole_where_that_is_asked_for() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.Linear(6, 3))
    planner = Planner(model, torch.randn(2, 4), keep_streams=True)
    assert [group.name for group in planner.prunable.groups] == ["2"]
