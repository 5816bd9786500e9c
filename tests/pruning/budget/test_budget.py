import pytest
import torch
from support.networks import build

from admm_exp.admm.groups import count_kept
from admm_exp.admm.metrics import L2Norm
from admm_exp.errors import ConfigError
from admm_exp.models.cifar_resnet import resnet8
from admm_exp.pruning.budget.budget import (
    TOLERANCE,
    Budget,
    global_counts,
    sparsities_within,
    uniform_counts,
    unit_scores,
)
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.cost import count_cost


def network():
    torch.manual_seed(0)
    return resnet8(num_classes=10, in_channels=1, width=16), torch.randn(2, 1, 8, 8)


def counts_of(planner, model, allocation, multiple=1):
    if allocation == "uniform":
        return uniform_counts(planner, multiple)
    return global_counts(planner, unit_scores(model, planner, L2Norm()), multiple)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize(
    ("quantity", "fraction"), [("macs", 0.5), ("macs", 0.2), ("params", 0.3), ("params", 0.8)]
)
def test_network_that_is_cut_costs_the_budget(allocation, quantity, fraction):
    model, inputs = network()
    planner, budget = Planner(model, inputs), Budget(quantity, fraction)
    chosen = sparsities_within(planner, budget, counts_of(planner, model, allocation))
    constrained = ConstrainedModel(
        model, inputs, sparsity=0.0, metric=L2Norm(), rho=1.0, by_layer=chosen
    )
    small, _ = constrained.cut(inputs)
    left = getattr(count_cost(small, inputs), quantity)
    dense = getattr(count_cost(model, inputs), quantity)
    assert abs(left / dense - fraction) <= TOLERANCE


def test_uniform_budget_gives_all_groups_about_one_sparsity():
    model, inputs = network()
    planner = Planner(model, inputs)
    chosen = sparsities_within(planner, Budget("macs", 0.5), uniform_counts(planner, 1))
    largest = max(1 / group.n_units for group in planner.prunable.groups)
    assert max(chosen.values()) - min(chosen.values()) <= 2 * largest


def test_budget_holds_in_multiples():
    model, inputs = network()
    planner = Planner(model, inputs)
    chosen = sparsities_within(planner, Budget("macs", 0.5), uniform_counts(planner, 4), 4)
    kept = [count_kept(g.n_units, chosen[g.name]) for g in planner.prunable.groups]
    assert all(count % 4 == 0 for count in kept)


def test_budget_out_of_reach_is_refused_with_the_nearest():
    model, inputs = build("mlp")
    planner = Planner(model, inputs)
    # 16 and 10 hidden units: one unit each leaves 6 + 1 + 5 of 306 MACs
    with pytest.raises(ConfigError, match=r"budget\.macs=0\.001 .*the nearest is 0\.039$"):
        sparsities_within(planner, Budget("macs", 0.001), uniform_counts(planner, 1))


def test_global_ranking_takes_the_weakest_channels_wherever_they_are():
    model, inputs = build("mlp")
    with torch.no_grad():
        model[2].weight[3:] *= 1e-3
        model[2].bias[3:] *= 1e-3
    planner = Planner(model, inputs)
    counts = global_counts(planner, unit_scores(model, planner, L2Norm()), 1)
    assert counts(7 / 26) == [16, 3]
    assert counts(0.0) == [16, 10]
    assert min(counts(1.0)) == 1


def test_scores_are_those_of_the_constrained_units():
    model, inputs = build("residual")
    planner = Planner(model, inputs)
    constrained = ConstrainedModel(model, inputs, sparsity=0.0, metric=L2Norm(), rho=1.0)
    expected = constrained.constraint.energies(constrained.weights())
    for got, want in zip(unit_scores(model, planner, L2Norm()), expected, strict=True):
        assert torch.allclose(got, want, rtol=1e-5)
