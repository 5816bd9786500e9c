"""What can be known of an experiment before anything is trained."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from admm_exp.admm.partition import Partition
from admm_exp.admm.partitions.channel import Channel
from admm_exp.config.settings import ExperimentConfig
from admm_exp.data.dataset import Dataset
from admm_exp.errors import ConfigError, ModelError
from admm_exp.experiment.allocation import constrain, latency_budget, settle_layers
from admm_exp.experiment.components import Components, example_input
from admm_exp.methods.method import Method
from admm_exp.pruning.budget.budget import Counts
from admm_exp.pruning.budget.latency_budget import LatencyChoice
from admm_exp.pruning.budget.planner import Plan
from admm_exp.pruning.dependency.inputs import to_device
from admm_exp.pruning.granularity import granularity_of
from admm_exp.pruning.surgery.sparsities import LayerSettings
from admm_exp.training.memory_format import laid_out
from admm_exp.training.pretrained import load_pretrained
from admm_exp.training.seeding import seed_everything


def untrained(config: ExperimentConfig, build_model: Callable[[], nn.Module]) -> nn.Module:
    """Build the network that a run starts from, on the CPU.

    Raises:
        CheckpointError: If the pretrained weights do not fit the network.
    """
    seed_everything(config.seed)
    model = build_model()
    if config.pretrained is not None:
        load_pretrained(model, config.pretrained)
    return model


def check_functions(config: ExperimentConfig, dataset: Dataset) -> None:
    """Check that there are functions for batches that are no images with their classes.

    Raises:
        ConfigError: If there are none.
    """
    if dataset.example is not None or not dataset.num_classes:
        for name in ("train_fn", "validate_fn"):
            if not getattr(config, name) and not (name == "train_fn" and dataset.example is None):
                raise ConfigError(
                    f"{name} must name a function of yours: {dataset.name} is no set of single "
                    f"tensors with their classes"
                )


def check_method(
    config: ExperimentConfig, method: Method, granularity: Channel | Partition
) -> None:
    """Check that a method means something for what it is asked to do.

    Raises:
        ConfigError: If it shrinks channels and is given finer units, or starts from random weights
            and is given those of a run.
    """
    name = config.method["name"]
    if method.needs_channels and not granularity_of(granularity).is_cut:
        raise ConfigError(
            f"method={name} shrinks whole channels: granularity must be channel, "
            f"got {config.granularity['name']}"
        )
    if method.starts_fresh and config.from_run is not None:
        raise ConfigError(
            f"method={name} trains from random weights and cannot go on from a run, got "
            f"from_run={config.from_run}: leave one of the two out"
        )


def check_network(config: ExperimentConfig, components: Components, model: nn.Module) -> None:
    """Check that a network can be pruned as asked.

    The untrained network is masked and cut on random inputs, so that what cannot be cut is known
    before ADMM has spent its epochs.

    Args:
        config: The settings.
        components: Data, granularity, channel groups and metric.
        model: The untrained network, on the CPU.

    Raises:
        ModelError: If the network does not fit the data.
        ConfigError: If the layers file does not fit the network.
        SurgeryError: If masked and cut network differ.
    """
    dataset = components.dataset
    layers = settle_layers(config, components.planner, model, components.metric)
    constrained = constrain(config, components, model, layers)
    if dataset.example is not None:
        constrained.removal().finish(to_device(example_input(dataset, components.device), "cpu"))
        return
    inputs = torch.randn(2, *dataset.shape)
    small, _ = constrained.removal().finish(inputs)
    if components.has_own_score:
        return
    with torch.no_grad():
        logits = small.eval()(inputs)
    expected = (2, dataset.num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"the model must return class scores of shape {expected} for 2 images of {dataset.name}"
            f", got {got}; where validate_fn scores it, it may return anything"
        )


def check_latency(config: ExperimentConfig, components: Components) -> None:
    """Check, before anything is trained, that the smallest network is fast enough for the budget.

    Raises:
        ConfigError: If it is not.
    """
    budget, planner = latency_budget(config, components), components.planner
    if budget is None or planner is None:
        return
    model = _on_device(components)

    def by_latency(counts: Counts) -> Mapping[str, float]:
        budget.require_reachable(model, planner, counts)
        return planner.sparsities(counts(1.0))

    settle_layers(config, planner, model, components.metric, by_latency=by_latency)


def planned_layers(
    config: ExperimentConfig, components: Components
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
    planner = components.planner
    if planner is None:
        raise ConfigError(
            f"admm-exp-plan plans the cut of whole channels: granularity must be channel, "
            f"got {config.granularity['name']}"
        )
    model, budget = _on_device(components), latency_budget(config, components)
    choice: LatencyChoice | None = None

    def by_latency(counts: Counts) -> Mapping[str, float]:
        nonlocal choice
        assert budget is not None
        choice = budget.choose(model, planner, counts)
        return choice.sparsities

    layers = settle_layers(config, planner, model, components.metric, by_latency=by_latency)
    return planner.plan(layers, config.channel_multiple), layers, choice


def _on_device(components: Components) -> nn.Module:
    return laid_out(components.build_model().to(components.device), components.device)
