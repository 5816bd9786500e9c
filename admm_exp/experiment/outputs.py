"""What a run hands over to its folder and to the tracker."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from admm_exp.config.hashes import config_hash, group_hash
from admm_exp.config.settings import BudgetSettings, ExperimentConfig, Export
from admm_exp.data.dataset import Dataset
from admm_exp.experiment.artifacts import Artifacts, Small
from admm_exp.experiment.components import Components
from admm_exp.experiment.environment import describe_environment
from admm_exp.experiment.identity import CODE_OF
from admm_exp.export.onnx import save_onnx
from admm_exp.export.saved_model import save_model
from admm_exp.pruning.budget.sensitivity import Curve
from admm_exp.pruning.cost.latency import LatencyRatio
from admm_exp.pruning.dependency.inputs import to_device
from admm_exp.pruning.surgery.groups import KeptGroup
from admm_exp.report.drawing_process import drawn_meanwhile
from admm_exp.report.inference import inference_metrics
from admm_exp.report.run import baseline_metrics, final_metrics, write_report
from admm_exp.results import FIGURES, LAYERS, PAGE, REPORT, History
from admm_exp.tracking.address import without_password
from admm_exp.tracking.curves import epoch_metrics
from admm_exp.tracking.params import run_params
from admm_exp.tracking.tracker import Baseline, Tracker


def log_settings(config: ExperimentConfig, dataset: Dataset, tracker: Tracker, rho: float) -> None:
    """Log the parameters and the data set of a run.

    Args:
        config: The settings.
        dataset: What is trained on.
        tracker: Where they go.
        rho: Penalty parameter of the first iteration.
    """
    tracker.log_params(run_params(asdict(config), rho))
    sizes = {split: getattr(dataset, split).n_samples for split in ("train", "val", "test")}
    sizes["train"] *= config.schedule.epoch_parts  # n_samples is that of an epoch
    profile = {"samples": sizes, "classes": dataset.num_classes, "shape": list(dataset.shape)}
    tracker.log_dataset(dataset.name, dataset.fingerprint[:36], "train", profile)


def share_baseline(
    config: ExperimentConfig,
    tracker: Tracker,
    entry: Path,
    dense: Mapping[str, Any],
    history: History,
) -> None:
    """Point the run to the one MLflow run of its dense network.

    Args:
        config: The settings.
        tracker: Of the run.
        entry: Cache entry of the dense network; its name says all that it depends on.
        dense: Accuracies and cost of the dense network.
        history: Epochs of the dense phase.
    """
    names = {part: getattr(config, part)["name"] for part in ("dataset", "model")}
    schedule = {"dense": asdict(config.schedule.dense)}
    tracker.share_baseline(
        Baseline(
            key=entry.name,
            lock=entry.with_suffix(".baseline.lock"),
            name=f"dense {names['model']} on {names['dataset']}, seed {config.seed}",
            params=names | {"seed": config.seed, "schedule": schedule},
            curves=[(r.epoch, epoch_metrics(r)) for r in history.epochs if r.phase == "dense"],
            final=baseline_metrics(dense),
        )
    )


def describe(
    config: ExperimentConfig, components: Components, tracker: Tracker, origin: Mapping[str, str]
) -> dict[str, Any]:
    """Record where a run comes from: settings, environment, MLflow run; no password.

    Args:
        config: The settings.
        components: Data set, device and the run before.
        tracker: The MLflow run.
        origin: What the run depended on when it began.
    """
    uri = tracker.tracking_uri
    environment = describe_environment(components.device)
    command = [without_password(word) for word in environment["command"]]
    shown = asdict(config) | {"tracking_uri": without_password(config.tracking_uri)}
    dataset, previous = components.dataset, components.previous
    return {
        "config_hash": config_hash(config),
        "group": group_hash(config),
        "seed": config.seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "rounds": previous.rounds() if previous else None,
        "config": shown,
        "environment": environment | {"command": command},
        "own_code": {
            name.removeprefix(CODE_OF): value
            for name, value in origin.items()
            if name.startswith(CODE_OF)
        },
        "mlflow": {
            "tracking_uri": None if uri is None else without_password(uri),
            "experiment": config.experiment_name if tracker.run_id else None,
            "run_id": tracker.run_id,
        },
    }


def deliver(
    report: dict[str, Any],
    components: Components,
    tracker: Tracker,
    made: Artifacts,
    run_dir: Path,
    *,
    export: Export,
    is_drawn: bool = True,
) -> None:
    """Write networks, figures and the report, and copy them to the tracker.

    Args:
        report: The numbers.
        components: What the run was made of.
        tracker: Where copies go.
        made: The networks before and after.
        run_dir: Folder of the run.
        export: What else the small network is written as.
        is_drawn: Draw figures too.
    """
    with drawn_meanwhile(report, run_dir / FIGURES, is_drawn=is_drawn) as figures:
        on_cpu = copy.deepcopy(made.small.network).cpu()
        example = to_device(components.example_input(), "cpu")
        files = save_model(
            on_cpu,
            components.previous.build_original() if components.previous else made.dense.network,
            components.builder,
            example,
            run_dir,
        )
        if export == Export.onnx:
            files += save_onnx(on_cpu, example, run_dir)
    report["files"] = sorted(path.name for path in files)
    tracker.log_metrics(
        {"surgery.max_abs_difference": report["surgery"]["max_abs_difference"]}
        | final_metrics(report)
        | (inference_metrics(report["inference"]) if report["inference"] else {}),
        step=0,
    )
    write_report(report, run_dir)
    for path in [*files, *(run_dir / name for name in (LAYERS, REPORT, PAGE))]:
        tracker.log_artifact(path)
    for path in figures:
        tracker.log_artifact(path, FIGURES)


def build_report(
    models: Mapping[str, Mapping[str, Any]],
    admm: Mapping[str, Any],
    small: Small,
    kept: Sequence[KeptGroup],
    history: History,
    *,
    epochs_before: int = 0,
) -> dict[str, Any]:
    """Put the results of a run together, as they stand in report.json.

    Args:
        models: Dense, pruned, finetuned and, where it was asked for, recalibrated, in a later
            round also the original dense network: accuracies, cost and latency of each.
        admm: Rho and the accuracy before the cut.
        small: What the cut did, and what the last training started from.
        kept: Groups that stayed whole.
        history: Epochs, iterations and phases of the run.
        epochs_before: Epochs of the runs before this one.
    """
    return {
        "status": "finished",
        "models": dict(models),
        "surgery": {
            "max_abs_difference": small.cut.max_abs_difference,
            "groups": len(small.cut.layers),
            "is_cut": small.cut.is_cut,
        },
        "admm": {
            **admm,
            "warnings": history.warnings,
            "iterations": [asdict(record) for record in history.iterations],
        },
        "epochs": count_epochs(history, small.is_fresh, epochs_before),
        "layers": [asdict(layer) for layer in small.cut.layers],
        "kept_groups": [asdict(group) for group in kept],
        "phases": [asdict(phase) for phase in history.phases],
        "history": [asdict(record) for record in history.epochs],
    }


def count_epochs(history: History, is_fresh: bool, epochs_before: int = 0) -> dict[str, int]:
    """Count the epochs of every phase, also of a dense network that came from the cache.

    Args:
        history: Epochs of the run.
        is_fresh: Whether the last phase started from random weights.
        epochs_before: Epochs of the runs before this one, `previous` in what is returned.

    Returns:
        Epochs by phase; `total` are those that the small network's weights were trained for.
    """
    by_phase = Counter(record.phase for record in history.epochs)
    last = history.epochs[-1].phase if history.epochs else ""
    total = by_phase[last] if is_fresh else epochs_before + by_phase.total()
    previous = {"previous": epochs_before} if epochs_before else {}
    return {**previous, **by_phase, "total": total}


def budget_entry(
    asked: BudgetSettings,
    models: Mapping[str, Mapping[str, Any]],
    curves: Sequence[Curve],
    *,
    chosen: LatencyRatio | None,
    reached: LatencyRatio | None,
) -> dict[str, Any] | None:
    """Record what of the dense network should remain and what does, on the cut network.

    Args:
        asked: One budget or none.
        models: Cost of dense and pruned network.
        curves: What every group costs, if that was measured.
        chosen: What was measured when the sparsities were chosen, if the budget is a latency.
        reached: What was measured at the end.
    """
    for quantity, fraction in asked.given().items():
        entry = {
            "quantity": quantity,
            "asked": fraction,
            "allocation": asked.allocation,
            "sensitivity": [asdict(curve) for curve in curves],
        }
        if chosen is None or reached is None:
            counts = models["pruned"][quantity], models["dense"][quantity]
            return entry | {"reached": counts[0] / counts[1]}
        measured = {"batch_size": asked.latency_batch, "spread": reached.spread}
        rounds = {"rounds": reached.rounds, "chosen": asdict(chosen)}
        return entry | {"reached": reached.value} | measured | rounds
    return None
