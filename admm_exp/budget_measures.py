"""What a budget measures on the trained network, once for all runs that share it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from admm_exp.admm.metrics import Metric
from admm_exp.config import ExperimentConfig, digest
from admm_exp.environment import device_name
from admm_exp.errors import CheckpointError
from admm_exp.materials import Materials
from admm_exp.phases.measured_once import DAMAGE, measured_once
from admm_exp.phases.parts import Parts
from admm_exp.pruning.budget import TOLERANCE, unit_scores
from admm_exp.pruning.latency import LatencyRatio
from admm_exp.pruning.latency_budget import LatencyBudget, LatencyChoice
from admm_exp.pruning.plan import Planner
from admm_exp.pruning.sensitivity import Curve, measure_curves
from admm_exp.results import PhaseResult
from admm_exp.run_parts import CALIBRATION_BATCHES
from admm_exp.training.distribution import from_first
from admm_exp.training.loop import as_evaluation


def latency_budget(config: ExperimentConfig, materials: Materials) -> LatencyBudget | None:
    """Read the time that the network may take; None if the settings do not limit it."""
    budget = config.budget
    if budget.latency is None:
        return None
    return LatencyBudget(budget.latency, materials.example_input(), budget.latency_batch)


def sensitivity_curves(
    parts: Parts, path: Path, planner: Planner, dense: nn.Module, metric: Metric
) -> tuple[Curve, ...]:
    """Measure what every group costs, or read it from disk.

    Args:
        parts: Functions that validate and that recalibrate norm layers.
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
        if parts.recalibrate_fn is not None:
            parts.recalibrate_fn(network)
        return as_evaluation(parts.validate_fn(network)).accuracy

    return measured_once(
        path,
        parse,
        lambda: measure_curves(dense, planner, unit_scores(dense, planner, metric), validate),
    )


def settled_choice(
    budget: LatencyBudget,
    parts: Parts,
    path: Path,
    planner: Planner,
    choose: Callable[[], LatencyChoice],
) -> LatencyChoice:
    """Choose the sparsity of every group by the latency, once and for all processes.

    A measurement comes out otherwise another time. So the choice is that of the checkpoint the run
    goes on from, else the one on disk, else made now by the first process.

    Args:
        budget: Names the setting in a warning.
        parts: Observer and progress.
        path: Where the choice is kept for other runs.
        planner: Knows the groups.
        choose: Measures networks and chooses.

    Raises:
        CheckpointError: If the checkpoint's choice is damaged.
    """
    phase, start, is_cached = "latency", perf_counter(), True
    names = [group.name for group in planner.prunable.groups]
    parts.observer.phase_started(phase, 0)

    def parse(data: Any) -> LatencyChoice:
        sparsities = {name: data["sparsities"][name] for name in names}
        if not all(0.0 <= sparsity < 1.0 for sparsity in sparsities.values()):
            raise ValueError("a sparsity outside [0, 1)")
        return LatencyChoice(sparsities, LatencyRatio(**data["ratio"]))

    def measure() -> LatencyChoice:
        nonlocal is_cached
        is_cached = False
        return parse(from_first(lambda: asdict(choose())))

    settled = parts.progress.settle(phase, lambda: asdict(measured_once(path, parse, measure)))
    try:
        choice = parse(settled)
    except DAMAGE as error:
        raise CheckpointError(
            f"the checkpoint's choice of sparsities is damaged: {error}"
        ) from error
    parts.observer.phase_finished(PhaseResult(phase, perf_counter() - start, 0, is_cached))
    if choice.ratio.spread > TOLERANCE:
        parts.observer.warned(
            f"{budget}: the machine is too noisy to tell latencies apart; the ratio of the chosen "
            f"network, {choice.ratio.value:.3f}, is known within +- {choice.ratio.spread:.3f} alone"
        )
    return choice


def curves_file(config: ExperimentConfig, planner: Planner) -> str:
    """Name the file of the curves by what they depend on beside the dense network."""
    names = [group.name for group in planner.prunable.groups]
    return f"sensitivity-{digest([config.metric, names, CALIBRATION_BATCHES])}.json"


def choice_file(config: ExperimentConfig, device: torch.device, planner: Planner) -> str:
    """Name the file of a choice by what it depends on beside the dense network.

    Args:
        config: The settings; a uniform allocation does not ask the metric.
        device: What is measured.
        planner: Knows the groups.
    """
    metric = None if config.budget.allocation == "uniform" else config.metric
    groups = [(group.name, group.n_units) for group in planner.prunable.groups]
    machine = [device_name(device), torch.get_num_threads()]
    key = [asdict(config.budget), metric, config.channel_multiple, groups, machine]
    return f"latency-{digest(key)}.json"
