"""What can be known of an experiment before anything is trained."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from admm_exp.admm.partitions.channel import Channel
from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import ConfigError, ModelError
from admm_exp.experiment.allocation import constrain, latency_budget, planner_of, settle_layers
from admm_exp.experiment.components import Materials
from admm_exp.pruning.budget.budget import Counts
from admm_exp.pruning.budget.latency_budget import LatencyChoice
from admm_exp.pruning.budget.planner import Plan
from admm_exp.pruning.surgery.sparsities import LayerSettings
from admm_exp.training.memory_format import laid_out
from admm_exp.training.pretrained import load_pretrained
from admm_exp.training.seeding import seed_everything


def planned(config: ExperimentConfig, materials: Materials) -> Materials:
    """Find the channel groups and check that the network can be pruned as asked.

    The untrained network is masked and cut on random inputs, so that what cannot be cut is known
    before ADMM has spent its epochs.

    Returns:
        The materials, with the planner.

    Raises:
        ModelError: If nothing can be pruned or the network does not fit the data.
        CheckpointError: If the pretrained weights do not fit the network.
        ConfigError: If the layers file does not fit the network, or rho is too large for the step.
        SurgeryError: If masked and cut network differ.
    """
    dataset = materials.dataset
    materials.method.check(config, materials.rho_policy, len(dataset.train))
    seed_everything(config.seed)
    model = materials.build_model()
    if config.pretrained is not None:
        load_pretrained(model, config.pretrained)
    if isinstance(materials.granularity, Channel):
        materials = replace(materials, planner=planner_of(config, model, materials.example_input()))
    layers = settle_layers(config, materials.planner, model, materials.metric)
    constrained = constrain(config, materials, model, layers)
    inputs = torch.randn(2, *dataset.shape)
    small, _ = constrained.finish(inputs)
    with torch.no_grad():
        logits = small.eval()(inputs)
    expected = (2, dataset.num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"the model must return class scores of shape {expected} for 2 images of {dataset.name}"
            f", got {got}"
        )
    return materials


def check_latency(config: ExperimentConfig, materials: Materials) -> None:
    """Check, before anything is trained, that the smallest network is fast enough for the budget.

    Raises:
        ConfigError: If it is not.
    """
    budget, planner = latency_budget(config, materials), materials.planner
    if budget is None or planner is None:
        return
    model = _on_device(materials)

    def by_latency(counts: Counts) -> Mapping[str, float]:
        budget.require_reachable(model, planner, counts)
        return planner.sparsities(counts(1.0))

    settle_layers(config, planner, model, materials.metric, by_latency=by_latency)


def planned_layers(
    config: ExperimentConfig, materials: Materials
) -> tuple[Plan, LayerSettings, LatencyChoice | None]:
    """Plan the cut of the untrained network.

    Returns:
        The plan, the settings of the layers that lead to it, and what was measured if the budget
        is a latency.

    Raises:
        ConfigError: If the layers file does not fit the network, or nothing would be cut.
    """
    if config.budget.given() and config.budget.allocation != "uniform":
        raise ConfigError(
            f"budget.allocation={config.budget.allocation} ranks the channels of a trained "
            f"network, which a plan has not: run admm-exp, which writes the layers file it used"
        )
    planner = materials.planner
    if planner is None:
        raise ConfigError(
            f"admm-exp-plan plans the cut of whole channels: granularity must be channel, "
            f"got {config.granularity['name']}"
        )
    model, budget = _on_device(materials), latency_budget(config, materials)
    choice: LatencyChoice | None = None

    def by_latency(counts: Counts) -> Mapping[str, float]:
        nonlocal choice
        assert budget is not None
        choice = budget.choose(model, planner, counts)
        return choice.sparsities

    layers = settle_layers(config, planner, model, materials.metric, by_latency=by_latency)
    return planner.plan(layers, config.channel_multiple), layers, choice


def _on_device(materials: Materials) -> nn.Module:
    return laid_out(materials.build_model().to(materials.device), materials.device)
