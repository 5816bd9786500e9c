"""What is measured on the networks of a run."""

from dataclasses import asdict
from functools import partial
from statistics import median
from typing import Any

from torch import Tensor, nn

from admm_exp.config.settings import ExperimentConfig, Inference
from admm_exp.experiment.allocation import latency_budget
from admm_exp.experiment.artifacts import Artifacts
from admm_exp.experiment.components import Components
from admm_exp.export.inference import engines_for, inference_entry, time_inference
from admm_exp.phases.observers import Observer
from admm_exp.pruning.cost.cost import count_cost
from admm_exp.pruning.cost.latency import (
    LatencyRatio,
    half_interval,
    measure_latency_ms,
    ratio_of_turns,
)
from admm_exp.pruning.cost.timing import take_turns
from admm_exp.training.loop import as_evaluation

LATENCY_BATCHES = (1, 32)
LATENCY_SECONDS = 0.09
INFERENCE_ROUNDS, INFERENCE_TURN_SECONDS = 9, 0.05


def measure_latencies(
    made: Artifacts, config: ExperimentConfig, components: Components, observer: Observer
) -> tuple[LatencyRatio | None, dict[str, Any]]:
    """Time the networks, of which the cut and the finetuned one share an architecture.

    Returns:
        What the small network takes of the dense one's time, if that has a budget; the same by
        batch size, as it stands in the report.
    """
    networks = made.networks()
    budget, batches = latency_budget(config, components), set(LATENCY_BATCHES)
    reached = None
    if budget is not None:
        batches.add(budget.batch_size)
        reached = budget.measure(networks["small"], networks["dense"])
        if budget.is_missed_by(reached):
            observer.warned(
                f"{budget} was met when the sparsities were chosen; now the cut network takes "
                f"{reached.value:.3f} (+- {reached.spread:.3f}) of the dense one's time"
            )
    sample = components.example_input()
    times = measure_latency_ms(networks, sample, sorted(batches), LATENCY_SECONDS)
    for name, column in made.models.items():
        if name != "original":  # keeps what its own run measured
            turns = times["dense" if name == "dense" else "small"]
            column["latency_ms"] = {batch: median(found) for batch, found in turns.items()}
            column["latency_spread_ms"] = {b: half_interval(found) for b, found in turns.items()}
    ratios = {
        batch: asdict(ratio_of_turns(times["small"][batch], times["dense"][batch]))
        for batch in times["dense"]
    }
    return reached, ratios


def time_engines(
    made: Artifacts, components: Components, asked: Inference
) -> dict[str, Any] | None:
    """Time both networks in every engine, if that is asked for."""
    if asked == Inference.eager:
        return None
    networks, example = made.networks(), components.example_input()
    if not isinstance(example, Tensor):
        return None  # engines take one tensor
    clock = partial(take_turns, rounds=INFERENCE_ROUNDS, turn_seconds=INFERENCE_TURN_SECONDS)
    timings = time_inference(networks, example, clock, engines_for(example))
    macs = [made.models[name]["macs"] for name in ("dense", "finetuned")]
    return inference_entry(timings, macs[0] / macs[1])


def accuracies(model: nn.Module, components: Components) -> dict[str, Any]:
    """Evaluate a network on validation and test data."""
    val, test = (
        as_evaluation(components.evaluate_fn(model, batches))
        for batches in (components.dataset.val, components.dataset.test)
    )
    return {
        "val_accuracy": val.accuracy,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
    }


def measured(model: nn.Module, components: Components) -> dict[str, Any]:
    """Evaluate a network and count what it costs."""
    cost = count_cost(model, components.example_input())
    return accuracies(model, components) | asdict(cost)
