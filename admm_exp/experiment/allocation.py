"""What becomes of every layer: from a budget, a file or one sparsity to settings of the layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from admm_exp.admm.metrics import GradientMetric, Metric
from admm_exp.config.hashes import digest
from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import CheckpointError, ConfigError
from admm_exp.experiment.components import Components
from admm_exp.experiment.environment import device_name
from admm_exp.experiment.functions import CALIBRATION_BATCHES
from admm_exp.experiment.own_code import own_code
from admm_exp.phases.cached_measurement import DAMAGE, measured_once
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.pruning.budget.budget import (
    TOLERANCE,
    Budget,
    Counts,
    global_counts,
    require_alive,
    sparsities_within,
    uniform_counts,
    unit_scores,
)
from admm_exp.pruning.budget.latency_budget import LatencyBudget, LatencyChoice
from admm_exp.pruning.budget.layers_file import read_layers
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.budget.sensitivity import Curve, measure_curves, sensitivity_counts
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.latency import LatencyRatio
from admm_exp.pruning.dependency.inputs import to_device
from admm_exp.pruning.dependency.structures import tensors_in
from admm_exp.pruning.surgery.sparsities import LayerSettings
from admm_exp.results import PhaseResult
from admm_exp.training.distribution import from_first
from admm_exp.training.loop import as_evaluation

PLANNERS = 4
"""Planners of one process that are kept: the jobs of a sweep have mostly the same network."""

_planners: dict[tuple[object, ...], Planner] = {}


def planner_of(config: ExperimentConfig, model: nn.Module, example_input: Any) -> Planner:
    """Find the channel groups of an architecture, without what the user excludes.

    Args:
        config: The settings.
        model: The network; its weights do not matter.
        example_input: Inputs that the network accepts, on any device.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
        ConfigError: If the layers file cannot be used.
    """
    exclude = _asked_of_layers(config).exclude
    key = (config.keep_streams, *_architecture(config, model, example_input, exclude))
    if key not in _planners:
        while len(_planners) >= PLANNERS:
            del _planners[next(iter(_planners))]
        _planners[key] = Planner(*(model, example_input, exclude), keep_streams=config.keep_streams)
    return _planners[key]


def _architecture(
    config: ExperimentConfig, model: nn.Module, example_input: Any, exclude: Sequence[str]
) -> tuple[object, ...]:
    """Name what a planner depends on: what builds the network and what it is made of.

    Classes are compared themselves: within a process their code stays the same.
    """
    modules = tuple((name, type(m), m.extra_repr()) for name, m in model.named_modules())
    tensors = tuple((name, tuple(t.shape)) for name, t in model.state_dict().items())
    example = tuple((tuple(t.shape), t.dtype, t.device) for t in tensors_in(example_input))
    return (repr(config.model), config.from_run, tuple(exclude), example, modules, tensors)


def settle_layers(
    config: ExperimentConfig,
    planner: Planner | None,
    model: nn.Module,
    metric: Metric,
    *,
    curves: Callable[[Planner], Sequence[Curve]] | None = None,
    by_latency: Callable[[Counts], Mapping[str, float]] | None = None,
) -> LayerSettings:
    """Settle the sparsity of every group: by the budget, the user's file, or one for all.

    Args:
        config: The settings.
        planner: Channel groups of the network; None below the channel, where nothing is cut.
        model: The network; trained, where its channels are ranked.
        metric: Score of the channels.
        curves: Measures what every group costs; None before the network is trained, when its
            channels cannot be ranked and every allocation is planned like uniform.
        by_latency: Measures networks and chooses the sparsity of every group by the budget; None
            before that can be done, when every group loses half of what it can.

    Raises:
        ConfigError: If the file cannot be used, or the budget cannot be reached.
    """
    asked, multiple = _asked_of_layers(config), config.channel_multiple
    given = config.budget.given()
    if planner is None or not given:
        return asked
    counts = _counts(config, planner, model, metric, curves)
    ((quantity, fraction),) = given.items()
    if quantity != "latency":
        by_layer = sparsities_within(planner, Budget(quantity, fraction), counts, multiple)
    elif by_latency is None:
        by_layer = planner.sparsities(counts(0.5))
    else:
        by_layer = dict(by_latency(counts))
    if config.budget.allocation != "uniform" and curves is not None:
        require_alive(planner, by_layer, config.budget.allocation)
    return replace(asked, by_layer=by_layer)


def _counts(
    config: ExperimentConfig,
    planner: Planner,
    model: nn.Module,
    metric: Metric,
    curves: Callable[[Planner], Sequence[Curve]] | None,
) -> Counts:
    """Share a budget among the groups: from a strength in [0, 1] to channels kept per group."""
    allocation, multiple = config.budget.allocation, config.channel_multiple
    if allocation != "uniform" and isinstance(metric, GradientMetric):
        raise ConfigError(
            f"budget.allocation={allocation} ranks channels before gradients are known: "
            f"take another metric than {config.metric['name']}, or another allocation"
        )
    if allocation == "uniform" or curves is None:
        return uniform_counts(planner, multiple)
    if allocation == "global":
        return global_counts(planner, unit_scores(model, planner, metric), multiple)
    return sensitivity_counts(planner, curves(planner), multiple)


def _asked_of_layers(config: ExperimentConfig) -> LayerSettings:
    if config.layers is None:
        return LayerSettings(config.sparsity, {})
    asked = read_layers(config.layers, config.sparsity)
    if config.budget.given() and asked.by_layer:
        raise ConfigError(
            f"layers={config.layers} and budget both choose the sparsity of layers: "
            f"give one, or a file that holds `exclude:` alone"
        )
    return asked


def constrain(
    config: ExperimentConfig, components: Components, model: nn.Module, layers: LayerSettings
) -> ConstrainedModel:
    """Put a network, on any device, under the constraints that the settings ask for."""
    device = next(model.parameters()).device
    return ConstrainedModel(
        model,
        to_device(components.example_input(), device),
        sparsity=layers.default,
        granularity=components.granularity,
        metric=components.metric,
        rho=1.0,
        by_layer=layers.by_layer,
        exclude=layers.exclude,
        channel_multiple=config.channel_multiple,
        keep_streams=config.keep_streams,
        prunable=None if components.planner is None else components.planner.prunable,
    )


def latency_budget(config: ExperimentConfig, components: Components) -> LatencyBudget | None:
    """Read the time that the network may take; None if the settings do not limit it."""
    budget = config.budget
    if budget.latency is None:
        return None
    return LatencyBudget(budget.latency, components.example_input(), budget.latency_batch)


def sensitivity_curves(
    functions: TrainingFunctions, path: Path, planner: Planner, dense: nn.Module, metric: Metric
) -> tuple[Curve, ...]:
    """Measure what every group costs, or read it from disk.

    Args:
        functions: Functions that validate and that recalibrate norm layers.
        path: Where the curves are kept for other runs.
        planner: Knows the groups.
        dense: The trained network; left as it is.
        metric: Score of the channels.
    """
    names = [group.name for group in planner.prunable.groups]

    def parse(rows: Any) -> tuple[Curve, ...]:
        curves = tuple(
            Curve(row["name"], tuple(row["sparsity"]), tuple(row["accuracy"])) for row in rows
        )
        if [curve.name for curve in curves] != names:
            raise ValueError("curves of other groups")
        return curves

    def validate(network: nn.Module) -> float:
        if functions.recalibrate_fn is not None:
            functions.recalibrate_fn(network)
        return as_evaluation(functions.validate_fn(network)).accuracy

    return measured_once(
        path,
        parse,
        lambda: measure_curves(dense, planner, unit_scores(dense, planner, metric), validate),
    )


def settled_choice(
    budget: LatencyBudget,
    functions: TrainingFunctions,
    path: Path,
    planner: Planner,
    choose: Callable[[], LatencyChoice],
) -> LatencyChoice:
    """Choose the sparsity of every group by the latency, once and for all processes.

    A measurement comes out otherwise another time. So the choice is that of the checkpoint the run
    goes on from, else the one on disk, else made now by the first process.

    Args:
        budget: Names the setting in a warning.
        functions: Observer and progress.
        path: Where the choice is kept for other runs.
        planner: Knows the groups.
        choose: Measures networks and chooses.

    Raises:
        CheckpointError: If the checkpoint's choice is damaged.
    """
    phase, start, is_cached = "latency", perf_counter(), True
    names = [group.name for group in planner.prunable.groups]
    functions.observer.phase_started(phase, 0)

    def parse(data: Any) -> LatencyChoice:
        sparsities = {name: data["sparsities"][name] for name in names}
        if not all(0.0 <= sparsity < 1.0 for sparsity in sparsities.values()):
            raise ValueError("a sparsity outside [0, 1)")
        return LatencyChoice(sparsities, LatencyRatio(**data["ratio"]))

    def measure() -> LatencyChoice:
        nonlocal is_cached
        is_cached = False
        return parse(from_first(lambda: asdict(choose())))

    settled = functions.progress.settle(phase, lambda: asdict(measured_once(path, parse, measure)))
    try:
        choice = parse(settled)
    except DAMAGE as error:
        raise CheckpointError(
            f"the checkpoint's choice of sparsities is damaged: {error}"
        ) from error
    functions.observer.phase_finished(PhaseResult(phase, perf_counter() - start, 0, is_cached))
    if choice.ratio.spread > TOLERANCE:
        functions.observer.warned(
            f"{budget}: the machine is too noisy to tell latencies apart; the ratio of the chosen "
            f"network, {choice.ratio.value:.3f}, is known within +- {choice.ratio.spread:.3f} alone"
        )
    return choice


def curves_file(config: ExperimentConfig, planner: Planner) -> str:
    """Name the file of the curves by what they depend on beside the dense network."""
    names = [group.name for group in planner.prunable.groups]
    return f"sensitivity-{digest([_metric_of(config), names, CALIBRATION_BATCHES])}.json"


def choice_file(config: ExperimentConfig, device: torch.device, planner: Planner) -> str:
    """Name the file of a choice by what it depends on beside the dense network.

    Args:
        config: The settings; a uniform allocation does not ask the metric.
        device: What is measured.
        planner: Knows the groups.
    """
    metric = None if config.budget.allocation == "uniform" else _metric_of(config)
    groups = [(group.name, group.n_units) for group in planner.prunable.groups]
    machine = [device_name(device), torch.get_num_threads()]
    key = [asdict(config.budget), metric, config.channel_multiple, groups, machine]
    return f"latency-{digest(key)}.json"


def _metric_of(config: ExperimentConfig) -> Any:
    """Say what scores the channels: the settings, and the code if it is the user's."""
    own = own_code([config.metric])
    return [config.metric, own] if own else config.metric
