from types import SimpleNamespace

import pytest
import torch
from torch import nn

from admm_exp.admm.bn_scale import BNScale
from admm_exp.experiment.allocation import planner_of, settle_layers

INPUTS = torch.randn(2, 3, 8, 8)


def two_layers():
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4)),
    )


def config_of(allocation):
    budget = SimpleNamespace(given=lambda: {"macs": 0.5}, allocation=allocation)
    metric = {"name": "bn_scale"}
    others = {"model": {"name": "two_layers"}, "from_run": None, "layers": None, "sparsity": 0.5}
    given = {"channel_multiple": 1, "keep_streams": False}
    return SimpleNamespace(budget=budget, metric=metric, **(given | others))


@pytest.mark.parametrize("allocation", ["global", "sensitivity"])
def test_scales_that_are_all_one_do_not_refuse_a_budget_before_training(allocation):
    config, model = config_of(allocation), two_layers()
    planner = planner_of(config, model, INPUTS)
    layers = settle_layers(config, planner, model, BNScale())
    assert planner.plan(layers).planned.macs == pytest.approx(0.5 * planner.dense.macs, rel=0.04)
    if allocation == "global":  # as after training
        ranked = settle_layers(config, planner, model, BNScale(), curves=lambda _: ())
        kept = [group.kept / group.channels for group in planner.plan(ranked).groups]
        assert kept[0] == pytest.approx(kept[1], abs=0.05)


def test_trained_scales_are_ranked_over_all_layers():
    config, model = config_of("global"), two_layers()
    with torch.no_grad():
        model[1].weight.copy_(torch.linspace(0.9, 1.0, 64))
        model[4].weight.copy_(torch.linspace(0.1, 1.0, 64))
    planner = planner_of(config, model, INPUTS)
    layers = settle_layers(config, planner, model, BNScale(), curves=lambda _: ())
    first, second = planner.plan(layers).groups
    assert first.kept > second.kept


def test_jobs_of_one_process_plan_a_network_once():
    config = config_of("global")
    first = planner_of(config, two_layers(), INPUTS)
    assert planner_of(config, two_layers(), INPUTS) is first
    assert planner_of(config, two_layers(), INPUTS[:, :, :6]) is not first
    other = two_layers()
    other[2] = nn.SiLU()
    assert planner_of(config, other, INPUTS) is not first
