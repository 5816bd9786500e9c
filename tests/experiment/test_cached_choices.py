import json

import pytest
import torch
from support.networks import build
from support.toy import functions_of
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.errors import CheckpointError
from admm_exp.experiment.allocation import sensitivity_curves, settled_choice
from admm_exp.phases.progress import Progress
from admm_exp.pruning.budget.latency_budget import LatencyBudget, LatencyChoice
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.cost.latency import LatencyRatio
from admm_exp.results import History

BUDGET = LatencyBudget(0.6, torch.zeros(1, 6), 8)


def choice_of(sparsity, spread=0.005):
    model, inputs = build("mlp")
    planner = Planner(model, inputs)
    sparsities = {group.name: sparsity for group in planner.prunable.groups}
    return planner, LatencyChoice(sparsities, LatencyRatio(0.61, spread, 6))


def test_the_same_command_again_takes_the_same_choice(tmp_path):
    path, history = tmp_path / "latency.json", History()
    planner, choice = choice_of(0.3)
    _, other = choice_of(0.4)
    for made in (choice, other):
        got = settled_choice(BUDGET, functions_of(history), path, planner, lambda made=made: made)
        assert got == choice
    assert [(p.name, p.cached) for p in history.phases] == [("latency", False), ("latency", True)]
    assert not history.warnings


@pytest.mark.parametrize("damage", [{}, {"sparsities": {"0": 1.5, "2": 0.5}}, {"ratio": {}}])
def test_a_damaged_choice_is_made_anew(tmp_path, damage):
    planner, choice = choice_of(0.3)
    path = tmp_path / "latency.json"
    settled_choice(BUDGET, functions_of(), path, planner, lambda: choice)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage if damage else damage))
    _, other = choice_of(0.4)
    assert settled_choice(BUDGET, functions_of(), path, planner, lambda: other) == other


def test_noise_beyond_the_tolerance_is_told(tmp_path):
    planner, choice = choice_of(0.3, spread=0.034)
    history = History()
    settled_choice(BUDGET, functions_of(history), tmp_path / "a.json", planner, lambda: choice)
    (warning,) = history.warnings
    assert warning.startswith("budget.latency=0.6 at batch 8 on cpu: ")
    assert "0.610, is known within +- 0.034" in warning


def test_a_damaged_choice_in_the_checkpoint_is_one_sentence(tmp_path):
    class Damaged(Progress):
        def settle(self, phase, choose):
            return {"sparsities": {}}

    planner, choice = choice_of(0.3)
    functions = functions_of(progress=Damaged())
    with pytest.raises(CheckpointError, match="choice of sparsities is damaged"):
        settled_choice(BUDGET, functions, tmp_path / "a.json", planner, lambda: choice)


def test_curves_are_of_recalibrated_networks(tmp_path):
    model, inputs = build("plain_chain")
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = norms[0].running_mean.clone()

    def recalibrate(network):
        network[1].running_mean.fill_(7.0)

    def validate(network):
        return float(network[1].running_mean.eq(7.0).all())

    functions = functions_of(validate_fn=validate, recalibrate_fn=recalibrate)
    planner = Planner(model, inputs)
    curves = sensitivity_curves(functions, tmp_path / "c.json", planner, model, L2Norm())
    assert {accuracy for curve in curves for accuracy in curve.accuracy} == {1.0}
    assert norms[0].running_mean.equal(before)
