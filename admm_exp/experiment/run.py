"""One experiment: all stages, then the report."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import CheckpointError
from admm_exp.experiment.artifacts import Artifacts, Run
from admm_exp.experiment.components import Materials
from admm_exp.experiment.functions import parts_of
from admm_exp.experiment.identity import origin_of
from admm_exp.experiment.measure import measure_latencies, time_engines
from admm_exp.experiment.outputs import (
    budget_entry,
    build_report,
    deliver,
    log_settings,
    origin,
    share_baseline,
)
from admm_exp.experiment.stages import STAGES
from admm_exp.methods.admm import starting_rho
from admm_exp.phases.checkpoints import Checkpoints
from admm_exp.phases.observers import Observers
from admm_exp.phases.snapshot import Snapshot, read_newest
from admm_exp.results import History
from admm_exp.tracking.curves import Curves
from admm_exp.training.distribution import is_first, require_same

CHECKPOINTS = "checkpoints"
VERSIONS = ("torch", "device", "admm-exp", "code")

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
    reached = measure_latencies(made, run)
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
    report["inference"] = time_engines(made, materials, config.inference)
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
