import random
from functools import cache
from itertools import pairwise

import pytest
import torch
from support.networks import build
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.errors import ConfigError
from admm_exp.pruning.budget.budget import (
    TOLERANCE,
    global_counts,
    uniform_counts,
    unit_scores,
)
from admm_exp.pruning.budget.latency_budget import LatencyBudget, counts_taking, require_enough
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.budget.sensitivity import Curve, sensitivity_counts
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.latency import PRECISION, LatencyRatio


@cache
def planner_and_counts(allocation, multiple=1, widths=(32, 64, 48)):
    torch.manual_seed(0)
    pairs = pairwise((8, *widths, 4))
    layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(*layers)
    planner = Planner(model, torch.randn(2, 8))
    if allocation == "uniform":
        return planner, uniform_counts(planner, multiple)
    if allocation == "global":
        return planner, global_counts(planner, unit_scores(model, planner, L2Norm()), multiple)
    drops = (0.0, 0.05, 0.1, 0.3, 0.6)
    curves = [
        Curve(
            g.name, (0.0, 0.25, 0.5, 0.75, 0.9), tuple(0.9 - drop * (i + 1) / 4 for drop in drops)
        )
        for i, g in enumerate(planner.prunable.groups)
    ]
    return planner, sensitivity_counts(planner, curves, multiple)


def machine_of(planner, noise=0.0, step=4):
    """Make a machine whose time falls with the channels, in steps, as vector units do."""
    full = [group.n_units for group in planner.prunable.groups]
    generator, calls = random.Random(1), []

    def time_of(kept):
        return 0.1 + 0.9 * sum(-(-n // step) * step for n in kept) / sum(full)

    def measure(kept):
        calls.append(tuple(kept))
        value = time_of(kept) + generator.gauss(0.0, noise)
        return LatencyRatio(value, 2 * noise, 12)

    return time_of, measure, calls


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.85])
def test_choice_is_as_near_as_the_best_of_all_strengths(allocation, fraction):
    planner, counts = planner_and_counts(allocation)
    time_of, measure, calls = machine_of(planner)
    kept, ratio = counts_taking(fraction, counts, measure, "budget.latency")
    nearest = min(abs(time_of(counts(i / 4096)) - fraction) for i in range(4097))
    assert abs(time_of(kept) - fraction) <= max(nearest, PRECISION)
    assert ratio.value == time_of(kept)
    assert len(calls) <= 20


@pytest.mark.parametrize("fraction", [0.4, 0.6])
def test_noise_does_not_lead_far_astray(fraction):
    planner, counts = planner_and_counts("uniform")
    time_of, measure, calls = machine_of(planner, noise=0.005, step=1)
    kept, _ = counts_taking(fraction, counts, measure, "budget.latency")
    assert abs(time_of(kept) - fraction) <= TOLERANCE
    assert calls.count(tuple(kept)) >= 2  # measured again after it was chosen


def test_multiples_move_group_by_group():
    planner, counts = planner_and_counts("uniform", multiple=8, widths=(32, 32, 32))
    time_of, measure, _ = machine_of(planner)
    reached = {time_of(counts(i / 256)) for i in range(257)}  # all groups jump at once
    target = time_of([24, 16, 16])
    kept, _ = counts_taking(target, counts, measure, "budget.latency")
    assert abs(time_of(kept) - target) <= TOLERANCE < min(abs(r - target) for r in reached)
    assert all(n % 8 == 0 for n in kept)


@pytest.mark.parametrize(
    ("fraction", "sentence"),
    [
        (0.2, "B cannot be reached: the smallest network .* takes 0.300 .* of the dense one's"),
        (0.6, "B cannot be reached by whole channels: the nearest is 0.800$"),
    ],
)
def test_what_cannot_be_reached_is_refused(fraction, sentence):
    model, inputs = build("mlp")
    counts = uniform_counts(Planner(model, inputs), 1)

    def measure(kept):
        value = 0.8 if sum(kept) > 13 else 0.3
        return LatencyRatio(value, 0.01, 12)

    with pytest.raises(ConfigError, match=sentence):
        counts_taking(fraction, counts, measure, "B")


class Work:
    """A clock that every multiplication of a linear layer moves on."""

    def __init__(self):
        self.now = 0.0

    def network(self):
        def watch(layer, inputs):  # a copy of a network shares a function, not a method
            self.now += 1e-6 * len(inputs[0]) * layer.weight.numel()

        torch.manual_seed(0)
        widths = pairwise((8, 64, 64, 4))
        layers = [layer for pair in widths for layer in (nn.Linear(*pair), nn.ReLU())]
        for layer in layers[::2]:
            layer.register_forward_pre_hook(watch)
        return nn.Sequential(*layers)


def test_the_network_that_is_cut_by_the_choice_takes_what_was_measured():
    work = Work()
    model, sample = work.network(), torch.randn(1, 8)
    budget = LatencyBudget(0.6, sample, 16, clock=lambda: work.now)
    planner = Planner(model, sample)
    choice = budget.choose(model, planner, uniform_counts(planner, 1))
    constrained = ConstrainedModel(
        model, sample, sparsity=0.0, metric=L2Norm(), rho=1.0, by_layer=choice.sparsities
    )
    small, _ = constrained.removal().finish(sample)
    assert budget.measure(small, model).value == pytest.approx(choice.ratio.value)
    weights = [sum(p.numel() for p in m.parameters() if p.dim() > 1) for m in (small, model)]
    assert choice.ratio.value == pytest.approx(weights[0] / weights[1])
    assert not budget.is_missed_by(choice.ratio)


def test_a_budget_names_itself_when_the_smallest_network_is_too_slow():
    work = Work()
    model, sample = work.network(), torch.randn(1, 8)

    def overhead(*_):
        work.now += 1e-6 * 4 * (8 * 64 + 64 * 64 + 64 * 4)

    model.register_forward_pre_hook(overhead)  # as much as all layers together
    planner = Planner(model, sample)
    counts = uniform_counts(planner, 1)
    LatencyBudget(0.6, sample, 4, lambda: work.now).require_reachable(model, planner, counts)
    budget = LatencyBudget(0.3, sample, 4, lambda: work.now)
    sentence = r"^budget\.latency=0\.3 at batch 4 on cpu cannot be reached: .* takes 0\.501 "
    for check in (budget.require_reachable, budget.choose):
        with pytest.raises(ConfigError, match=sentence):
            check(model, planner, counts)


def test_noise_is_no_miss():
    budget = LatencyBudget(0.5, torch.zeros(1, 8), 1)
    beyond = 0.5 + TOLERANCE + 0.01
    assert budget.is_missed_by(LatencyRatio(beyond, 0.0, 1))
    assert not budget.is_missed_by(LatencyRatio(beyond, 0.02, 1))


def test_a_smallest_network_that_may_be_fast_enough_is_enough():
    beyond = 0.5 + TOLERANCE + 0.01
    require_enough(0.5, LatencyRatio(beyond, 0.02, 1), "it")
    with pytest.raises(ConfigError, match="it cannot be reached: the smallest network"):
        require_enough(0.5, LatencyRatio(beyond, 0.0, 1), "it")


def test_the_nearest_network_is_taken_if_noise_alone_keeps_it_off():
    def taking(spread):
        def measure(kept):
            return LatencyRatio(0.3 if kept[0] < 5 else 0.8, spread, 1)

        return counts_taking(0.5, lambda strength: [round(10 * (1 - strength))], measure, "it")

    assert taking(0.3)[1].value == 0.3
    with pytest.raises(ConfigError, match=r"by whole channels: the nearest is 0\.300"):
        taking(0.0)
