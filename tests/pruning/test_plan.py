import pytest
import torch
from networks import NETWORKS, build

from admm_exp.admm.groups import count_kept
from admm_exp.admm.metrics import L2Norm
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost import count_cost
from admm_exp.pruning.plan import plan_layers, sparsity_of
from admm_exp.pruning.sparsities import LayerSettings


@pytest.mark.parametrize("name", NETWORKS)
def test_planned_cost_is_that_of_the_network_that_is_really_cut(name):
    model, inputs = build(name)
    plan = plan_layers(model, inputs, LayerSettings(0.5, {}))
    constrained = ConstrainedModel(model, inputs, sparsity=0.5, metric=L2Norm(), rho=1.0)
    small, _ = constrained.cut(inputs)
    cost = count_cost(small, inputs)
    assert (plan.planned.macs, plan.planned.params) == (cost.macs, cost.params)
    assert plan.dense.macs == count_cost(model, inputs).macs


def test_rows_of_a_plan_are_those_of_a_hand_count():
    plan = plan_layers(*build("mlp"), LayerSettings(0.5, {"0": 0.25}))
    first, second = plan.groups
    assert (first.channels, first.kept, second.channels, second.kept) == (16, 12, 10, 5)
    assert (first.params, first.planned_params) == (16 * 7, 12 * 7)
    assert (second.params, second.planned_params) == (10 * 17, 5 * 13)
    assert (second.macs, second.planned_macs) == (160, 60)
    assert plan.planned.params == 12 * 7 + 5 * 13 + 5 * 6


def test_planning_leaves_the_network_alone():
    model, inputs = build("residual")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan_layers(model.train(), inputs, LayerSettings(0.5, {}))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rounded_counts_are_written_as_sparsities_that_give_them():
    plan = plan_layers(*build("mlp"), LayerSettings(0.4, {}), channel_multiple=8)
    assert [group.kept for group in plan.groups] == [8, 8]
    assert [count_kept(group.channels, group.sparsity) for group in plan.groups] == [8, 8]


@pytest.mark.parametrize("n_units", [1, 3, 7, 10, 64, 1000, 12345])
def test_sparsity_of_a_count_gives_the_count_back(n_units):
    counts = range(1, n_units + 1, max(1, n_units // 50))
    assert [count_kept(n_units, sparsity_of(n_units, n)) for n in counts] == list(counts)
