from functools import cache
from types import SimpleNamespace

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
    require_alive,
    sparsities_within,
    standing,
    uniform_counts,
    unit_scores,
)
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.cost import count_cost


def network():
    torch.manual_seed(0)
    return resnet8(num_classes=10, in_channels=1, width=16), torch.randn(2, 1, 8, 8)


@cache
def planned():
    """Trace the network once for all tests, which leave it as it is."""
    return Planner(*network())


def counts_of(planner, model, allocation, multiple=1):
    if allocation == "uniform":
        return uniform_counts(planner, multiple)
    return global_counts(planner, unit_scores(model, planner, L2Norm()), multiple)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize(
    ("quantity", "fraction"), [("macs", 0.5), ("macs", 0.2), ("params", 0.3), ("params", 0.8)]
)
def test_network_that_is_cut_costs_the_budget(allocation, quantity, fraction):
    (model, inputs), planner, budget = network(), planned(), Budget(quantity, fraction)
    chosen = sparsities_within(planner, budget, counts_of(planner, model, allocation))
    constrained = ConstrainedModel(
        model, inputs, sparsity=0.0, metric=L2Norm(), rho=1.0, by_layer=chosen
    )
    small, _ = constrained.removal().finish(inputs)
    left = getattr(count_cost(small, inputs), quantity)
    dense = getattr(count_cost(model, inputs), quantity)
    assert abs(left / dense - fraction) <= TOLERANCE


def test_uniform_budget_gives_all_groups_about_one_sparsity():
    planner = planned()
    chosen = sparsities_within(planner, Budget("macs", 0.5), uniform_counts(planner, 1))
    largest = max(1 / group.n_units for group in planner.prunable.groups)
    assert max(chosen.values()) - min(chosen.values()) <= 2 * largest


def test_budget_holds_in_multiples():
    planner = planned()
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
    assert counts(6 / 26) == [16, 4]
    assert counts(7 / 26) == [16, 4]  # the floor: half of what one sparsity for all would leave
    assert counts(0.0) == [16, 10]
    assert min(counts(1.0)) == 1


def test_channels_that_are_alike_go_in_equal_shares_however_many_there_are():
    narrow, wide = standing(torch.ones(20)), standing(torch.ones(500))
    for threshold in (1.5, 2.5, 10.5):
        shares = [float((places < threshold).double().mean()) for places in (narrow, wide)]
        assert shares[0] == pytest.approx(shares[1], abs=0.05)
    assert narrow.max() == pytest.approx(20.0)


def test_standing_falls_with_the_score_and_knows_no_scale():
    scores = torch.tensor([3.0, 0.1, 7.0, 0.0, 2.0])
    assert standing(scores).argsort().tolist() == scores.argsort().tolist()
    assert torch.allclose(standing(scores), standing(100 * scores))
    assert standing(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_global_ranking_leaves_every_group_half_of_what_uniform_would():
    model, inputs = network()
    with torch.no_grad():  # one strong channel: all others of its group look like nothing
        model.conv1.weight[0] *= 1e4
    planner = Planner(model, inputs)
    ranked, uniform = counts_of(planner, model, "global"), uniform_counts(planner, 1)
    for strength in (0.25, 0.5, 0.75):
        pairs = list(zip(ranked(strength), uniform(strength), strict=True))
        assert all(kept >= few // 2 for kept, few in pairs)
        assert any(kept != few for kept, few in pairs)


def test_a_budget_that_leaves_a_group_next_to_nothing_is_refused():
    planner = planned()
    name = planner.prunable.groups[0].name
    well = {group.name: 0.5 for group in planner.prunable.groups}
    require_alive(planner, well, "global")
    with pytest.raises(ConfigError, match=rf"allocation=global would leave 1 of the 16 .* {name}:"):
        require_alive(planner, well | {name: 0.95}, "global")


def test_a_tiny_budget_is_met_as_a_fraction_of_itself():
    planner = planned()
    for allocation in ("uniform", "global"):
        chosen = sparsities_within(
            planner, Budget("macs", 0.05), counts_of(planner, network()[0], allocation)
        )
        kept = [group.count_kept(chosen[group.name]) for group in planner.prunable.groups]
        assert planner.cost(kept).macs / planner.dense.macs == pytest.approx(0.05, rel=0.1)


def test_scores_are_those_of_the_constrained_units():
    model, inputs = build("residual")
    planner = Planner(model, inputs)
    constrained = ConstrainedModel(model, inputs, sparsity=0.0, metric=L2Norm(), rho=1.0)
    expected = constrained.constraint.energies(constrained.weights())
    for got, want in zip(unit_scores(model, planner, L2Norm()), expected, strict=True):
        assert torch.allclose(got, want, rtol=1e-5)


def test_global_ranking_does_not_see_the_scale_of_a_group():
    group = SimpleNamespace(count_kept=lambda sparsity, _: round(4 * (1 - sparsity)))
    planner = SimpleNamespace(prunable=SimpleNamespace(groups=[group, group]))
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    counts = global_counts(planner, [scores, 1000 * scores], 1)
    assert counts(0.5) == [2, 2]


@pytest.mark.parametrize("fraction", [0.24, 0.5, 0.9])
def test_single_channels_bring_the_cost_to_the_budget_where_whole_steps_jump(fraction):
    model, inputs = build("residual")
    planner, budget = Planner(model, inputs), Budget("macs", fraction)
    chosen = sparsities_within(planner, budget, uniform_counts(planner, 1))
    kept = [count_kept(g.n_units, chosen[g.name]) for g in planner.prunable.groups]
    assert abs(budget.of(planner.cost(kept), planner.dense) - fraction) <= TOLERANCE
