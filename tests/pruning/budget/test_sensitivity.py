import threading

import pytest
import torch
from support.networks import build
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.pruning.budget.budget import TOLERANCE, Budget, sparsities_within, unit_scores
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.budget.sensitivity import (
    Curve,
    measure_curves,
    sensitivity_counts,
    sparsity_at,
)
from admm_exp.pruning.cost.cost import count_cost


def curve(*accuracies, sparsity=(0.0, 0.25, 0.5, 0.75, 0.9)):
    return Curve("g", sparsity, accuracies)


@pytest.mark.parametrize(
    ("accuracies", "strength", "expected"),
    [
        ((0.9, 0.9, 0.9, 0.9, 0.9), 0.0, 0.0),
        ((0.9, 0.9, 0.9, 0.9, 0.9), 0.01 / 1.02, 0.5),  # the slope alone: 0.02 * 0.5
        ((0.9, 0.8, 0.7, 0.6, 0.5), 0.105 / 1.02, 0.25),  # 0.1 lost and 0.02 * 0.25
        ((0.9, 0.8, 0.7, 0.6, 0.5), 0.0525 / 1.02, 0.125),  # half of that
        ((0.9, 0.8, 0.95, 0.6, 0.5), 0.11 / 1.02, 0.5),  # a rise counts as flat
        ((0.9, 0.9, 0.9, 0.9, 0.9), 1.0, 1.0),
    ],
)
def test_sparsity_is_where_the_curve_costs_the_strength(accuracies, strength, expected):
    assert sparsity_at(curve(*accuracies), strength) == pytest.approx(expected, abs=1e-6)


def test_curves_are_those_of_networks_masked_by_hand():
    model, inputs = build("mlp")
    planner = Planner(model, inputs)
    scores = unit_scores(model, planner, L2Norm())
    seen = []

    def validate(network):
        seen.append(
            [int((layer.weight.abs().sum(1) > 0).sum()) for layer in (network[0], network[2])]
        )
        return 1.0 / len(seen)

    curves = measure_curves(model, planner, scores, validate)
    assert seen == [[16, 10], *([n, 10] for n in (12, 8, 4, 2)), *([16, n] for n in (8, 5, 3, 1))]
    assert curves[1].sparsity == pytest.approx((0.0, 0.2, 0.5, 0.7, 0.9))
    assert curves[0].accuracy == (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5)
    weakest = scores[0].argmin()
    assert model[0].weight[weakest].abs().sum() > 0  # the network itself stays whole


def test_a_level_at_which_a_small_group_loses_nothing_is_not_measured():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    planner = Planner(model, torch.randn(2, 4))
    (found,) = measure_curves(model, planner, unit_scores(model, planner, L2Norm()), lambda _: 0.5)
    assert found.sparsity == pytest.approx((0.0, 1 / 3, 2 / 3))  # 0.25 of 3 is none


def test_groups_that_cost_nothing_are_pruned_for_those_that_cost_much():
    torch.manual_seed(0)
    layers = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)]
    model, inputs = nn.Sequential(*layers), torch.randn(2, 8)
    planner = Planner(model, inputs)
    curves = [curve(0.9, 0.5, 0.3, 0.2, 0.1), curve(0.9, 0.9, 0.9, 0.9, 0.89)]
    chosen = sparsities_within(planner, Budget("macs", 0.5), sensitivity_counts(planner, curves))
    assert chosen["2"] > 0.4 > 0.1 > chosen["0"]
    kept = [32 - int(chosen[name] * 32 + 1e-9) for name in ("0", "2")]
    left = count_cost(planner.cut(kept), planner.example_input).macs
    assert abs(left / count_cost(model, inputs).macs - 0.5) <= TOLERANCE


class Frozen(nn.Module):
    """A linear layer under constants of its width, with what cannot be copied among the rest."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.lock = nn.Linear(4, 8), nn.Linear(8, 3), threading.Lock()
        self.register_buffer("shift", torch.ones(8))

    def forward(self, x):
        return self.b((self.a(x) + self.shift).relu())


def test_constants_of_a_pruned_group_are_zero_while_it_is_measured():
    model, inputs = Frozen(), torch.randn(2, 4)
    planner = Planner(model, inputs)
    seen = []

    def validate(network):
        seen.append((int(network.shift.count_nonzero()), network.a.weight.shape[0]))
        return 0.5

    measure_curves(model, planner, unit_scores(model, planner, L2Norm()), validate)
    assert seen == [(8, 8), (6, 8), (4, 8), (2, 8), (1, 8)]
    assert int(model.shift.sum()) == 8
