"""One experiment: all stages, then the report."""

import logging
from pathlib import Path
from typing import Any

from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import CheckpointError
from admm_exp.experiment.artifacts import Artifacts, Folders
from admm_exp.experiment.components import Components
from admm_exp.experiment.functions import (
    admm_course,
    functions_of,
    starting_rho,
    steps_per_epoch,
)
from admm_exp.experiment.identity import CODE_OF, changed_since_begun, origin_of
from admm_exp.experiment.measure import measure_latencies, time_engines
from admm_exp.experiment.outputs import (
    budget_entry,
    build_report,
    deliver,
    describe,
    log_settings,
    share_baseline,
)
from admm_exp.experiment.stages import finetune, make_dense, make_small, make_sparse
from admm_exp.experiment.training_cost import training_cost
from admm_exp.phases.checkpoints import Checkpoints
from admm_exp.phases.observers import Observer, Observers
from admm_exp.phases.snapshot import Snapshot, read_newest
from admm_exp.results import CHECKPOINTS, History
from admm_exp.tracking.curves import Curves
from admm_exp.tracking.tracker import Tracker
from admm_exp.training.distribution import is_first, require_same

VERSIONS = ("torch", "device", "admm-exp", "code")

logger = logging.getLogger(__name__)


def run_experiment(
    config: ExperimentConfig,
    components: Components,
    folders: Folders,
    observer: Observer,
    tracker: Tracker,
    *,
    earlier: Snapshot | None = None,
    is_drawn: bool = True,
) -> dict[str, Any]:
    """Run all stages and write everything a run leaves behind.

    Args:
        config: The settings.
        components: Data, network, method.
        folders: Of the run, and of dense networks shared by runs.
        observer: Who sees the run, such as the terminal.
        tracker: Where parameters, curves and files go.
        earlier: Where an earlier process stopped; None begins anew.
        is_drawn: Draw figures of the report.

    Returns:
        The report; empty in all but the first of several processes, which writes all files.
    """
    if earlier is not None:
        require_same("the checkpoint", earlier.number)
    history = History()
    observers = Observers((history, Curves(tracker), observer))
    origin = origin_of(config, components)
    begun_with = changed_since_begun(origin, earlier.origin if earlier else origin)
    origin |= {name: f"{then}, then {origin.get(name)}" for name, then in begun_with.items()}
    checkpoints = Checkpoints(folders.run_dir / CHECKPOINTS, origin, observers, earlier)
    functions = functions_of(config, components, checkpoints)
    course = admm_course(config, components.rho_policy)
    rho = starting_rho(config, course, steps_per_epoch(config, components.dataset))
    log_settings(config, components.dataset, tracker, rho)

    with checkpoints:
        dense = make_dense(config, components, functions, folders, begun_with=begun_with)
        if dense.key is not None:
            entry = folders.cache_dir / dense.key
            share_baseline(config, tracker, entry, dense.measured, history)
        sparse = make_sparse(
            config, components, functions, folders, dense=dense, course=course, rho=rho
        )
        small = make_small(config, components, functions, sparse.constrained, course)
        finetuned = finetune(
            config,
            components,
            functions,
            course=course,
            teacher=dense.network,
            constrained=sparse.constrained,
            small=small,
        )

    if not is_first():
        return {}
    previous = components.previous
    models = {"original": previous.original()} if previous else {}
    models |= {"dense": dense.measured, **small.measured, "finetuned": finetuned}
    made = Artifacts(dense, sparse, small, models)
    reached, latency = measure_latencies(made, config, components, observers)
    report = describe(config, components, tracker, origin) | build_report(
        models,
        {"rho": rho, "rho_setting": config.rho, **sparse.before_cut},
        small,
        sparse.constrained.prunable.kept,
        history,
        epochs_before=previous.report["epochs"]["total"] if previous else 0,
    )
    if changed := sorted({*begun_with} - {"device"}):
        report["changed_while_it_ran"] = changed
    report["training"] = training_cost(history, models, components.dataset.train.n_samples)
    report["budget"] = budget_entry(
        config.budget,
        models,
        sparse.curves,
        chosen=sparse.latency.ratio if sparse.latency else None,
        reached=reached,
    )
    report["latency"] = latency
    report["inference"] = time_engines(made, components, config.inference)
    deliver(
        report, components, tracker, made, folders.run_dir, export=config.export, is_drawn=is_drawn
    )
    return report


def find_checkpoint(
    config: ExperimentConfig, components: Components, run_dir: Path
) -> Snapshot | None:
    """Read where a run stopped; None if it had not finished an epoch.

    Args:
        config: The settings.
        components: Data and network.
        run_dir: Folder of the run.

    Raises:
        CheckpointError: If the run had other settings or other data.
    """
    found = read_newest(run_dir / CHECKPOINTS)
    if found is None:
        return None
    for name, value in origin_of(config, components).items():
        if found.origin.get(name) == value:
            continue
        if name in VERSIONS or name.startswith(CODE_OF):
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
