"""One experiment: all stages, then the report."""

import logging
import pkgutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from admm_exp.budget_entry import budget_entry
from admm_exp.budget_measures import latency_budget
from admm_exp.clock import take_turns
from admm_exp.config import ExperimentConfig, Inference, config_hash, digest
from admm_exp.environment import code_digest, package_version
from admm_exp.errors import CheckpointError
from admm_exp.handover import deliver, log_settings, origin, share_baseline
from admm_exp.inference import engines_for, inference_entry, time_inference
from admm_exp.materials import Materials
from admm_exp.methods.admm import starting_rho
from admm_exp.phases.checkpoints import Checkpoints
from admm_exp.phases.parts import Observers
from admm_exp.phases.snapshot import Snapshot, read_newest
from admm_exp.pruning.latency import LatencyRatio, measure_latency_ms
from admm_exp.report import build_report
from admm_exp.results import History
from admm_exp.run_parts import parts_of
from admm_exp.stages import STAGES, Artifacts, Run
from admm_exp.tracking.curves import Curves
from admm_exp.training.distribution import is_first, require_same

CHECKPOINTS = "checkpoints"
VERSIONS = ("torch", "device", "admm-exp", "code")
LATENCY_BATCHES = (1, 32)
LATENCY_SECONDS = 0.05
INFERENCE_ROUNDS, INFERENCE_TURN_SECONDS = 9, 0.05

logger = logging.getLogger(__name__)


def run_experiment(
    config: ExperimentConfig,
    materials: Materials,
    run_dir: Path,
    cache_dir: Path,
    earlier: Snapshot | None = None,
) -> dict[str, Any]:
    """Run all stages and write everything a run leaves behind.

    Args:
        config: The settings.
        materials: Data, network, metric, tracker.
        run_dir: Folder of the run.
        cache_dir: Folder of dense networks shared by runs.
        earlier: Where an earlier process stopped; None begins anew.

    Returns:
        The report; empty in all but the first of several processes, which writes all files.
    """
    if earlier is not None:
        require_same("the checkpoint", earlier.number)
    history = History()
    observer = Observers((history, Curves(materials.tracker), *materials.observers))
    checkpoints = Checkpoints(
        run_dir / CHECKPOINTS, origin_of(config, materials), observer, earlier
    )
    parts = replace(parts_of(config, materials, checkpoints), progress=checkpoints)
    run = Run(config, materials, parts, run_dir, cache_dir)
    rho = starting_rho(config, materials.rho_policy, len(materials.dataset.train))
    log_settings(config, materials, rho)

    made = Artifacts()
    first, *others = STAGES
    first(made, run)
    if made.dense_key is not None:
        entry = cache_dir / made.dense_key
        share_baseline(config, materials, entry, made.models["dense"], history)
    for stage in others:
        stage(made, run)

    if not is_first():
        return {}
    reached = _measure_latency(made, run)
    previous = materials.previous
    admm = {"rho": rho, "rho_setting": config.rho, **made.before_cut}
    report = origin(config, materials) | build_report(
        made.models,
        admm,
        made.cut,
        made.constrained.prunable.kept,
        history,
        is_fresh=made.small is not made.cut.model,
        epochs_before=previous.report["epochs"]["total"] if previous else 0,
    )
    report["budget"] = budget_entry(
        config.budget,
        made.models,
        made.curves,
        chosen=made.latency.ratio if made.latency else None,
        reached=reached,
    )
    report["inference"] = _inference(made, materials, config.inference)
    deliver(report, materials, made.dense, made.small, run_dir, export=config.export)
    return report


def find_checkpoint(
    config: ExperimentConfig, materials: Materials, run_dir: Path
) -> Snapshot | None:
    """Read where a run stopped; None if it had not finished an epoch.

    Args:
        config: The settings.
        materials: Data and network.
        run_dir: Folder of the run.

    Raises:
        CheckpointError: If the run had other settings or other data.
    """
    found = read_newest(run_dir / CHECKPOINTS)
    if found is None:
        return None
    for name, value in origin_of(config, materials).items():
        if found.origin.get(name) == value:
            continue
        if name in VERSIONS:
            logger.warning(
                "%s was %s when %s began and is %s now: the result may differ from that of a run "
                "that was never stopped",
                *(name, found.origin.get(name), run_dir, value),
            )
        else:
            raise CheckpointError(
                f"{run_dir} cannot go on: the {name} changed since it began; start a new run"
            )
    return found


def origin_of(config: ExperimentConfig, materials: Materials) -> dict[str, str]:
    """Say what a run depends on."""
    return {
        "settings": config_hash(config),
        "data": materials.dataset.fingerprint,
        "torch": torch.__version__,
        "device": materials.device.type,
        "admm-exp": str(package_version("admm-exp")),
        "code": _code_of(materials),
    }


def _code_of(materials: Materials) -> str:
    """Hash the files that a user may have edited between a stop and a resume."""
    builder = pkgutil.resolve_name(materials.builder["_target_"])
    parts = (builder, materials.train_fn, materials.evaluate_fn, materials.metric)
    return digest([code_digest(part) for part in parts if part is not None])


def _measure_latency(made: Artifacts, run: Run) -> LatencyRatio | None:
    """Time the networks, of which the cut and the finetuned one share an architecture.

    Returns:
        What the small network takes of the dense one's time, if that has a budget.
    """
    networks = {"dense": made.dense, "small": made.small}
    budget, batches = latency_budget(run.config, run.materials), set(LATENCY_BATCHES)
    reached = None
    if budget is not None:
        batches.add(budget.batch_size)
        reached = budget.measure(made.small, made.dense)
        if budget.is_missed_by(reached):
            run.parts.observer.warned(
                f"{budget} was met when the sparsities were chosen; now the cut network takes "
                f"{reached.value:.3f} (+- {reached.spread:.3f}) of the dense one's time"
            )
    sample = run.materials.example_input()
    times = measure_latency_ms(networks, sample, sorted(batches), LATENCY_SECONDS)
    for name, column in made.models.items():
        if name != "original":  # keeps what its own run measured
            column["latency_ms"] = times["dense" if name == "dense" else "small"]
    return reached


def _inference(made: Artifacts, materials: Materials, asked: Inference) -> dict[str, Any] | None:
    """Time both networks in every engine, if that is asked for."""
    if asked == Inference.eager:
        return None
    networks, example = {"dense": made.dense, "small": made.small}, materials.example_input()
    clock = partial(take_turns, rounds=INFERENCE_ROUNDS, turn_seconds=INFERENCE_TURN_SECONDS)
    timings = time_inference(networks, example, clock, engines_for(example))
    macs = [made.models[name]["macs"] for name in ("dense", "finetuned")]
    return inference_entry(timings, macs[0] / macs[1])
