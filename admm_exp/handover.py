"""What a run hands over to its folder and to the tracker."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from admm_exp.config import ExperimentConfig, Export, config_hash, group_hash
from admm_exp.environment import describe_environment
from admm_exp.figures.run import draw_all
from admm_exp.inference import inference_metrics
from admm_exp.materials import Materials
from admm_exp.onnx_file import save_onnx
from admm_exp.report import baseline_metrics, final_metrics, write_report
from admm_exp.results import History
from admm_exp.saved_model import save_model
from admm_exp.tracking.address import without_password
from admm_exp.tracking.curves import epoch_metrics
from admm_exp.tracking.params import run_params
from admm_exp.tracking.tracker import Baseline


def log_settings(config: ExperimentConfig, materials: Materials, rho: float) -> None:
    """Log the parameters and the data set of a run.

    Args:
        config: The settings.
        materials: Data set and tracker.
        rho: Penalty parameter of the first iteration.
    """
    dataset, tracker = materials.dataset, materials.tracker
    tracker.log_params(run_params(asdict(config), rho))
    sizes = {split: getattr(dataset, split).n_samples for split in ("train", "val", "test")}
    profile = {"samples": sizes, "classes": dataset.num_classes, "shape": list(dataset.shape)}
    tracker.log_dataset(dataset.name, dataset.fingerprint[:36], "train", profile)


def share_baseline(
    config: ExperimentConfig,
    materials: Materials,
    entry: Path,
    dense: Mapping[str, Any],
    history: History,
) -> None:
    """Point the run to the one MLflow run of its dense network.

    Args:
        config: The settings.
        materials: Data set and tracker.
        entry: Cache entry of the dense network; its name says all that it depends on.
        dense: Accuracies and cost of the dense network.
        history: Epochs of the dense phase.
    """
    names = {part: getattr(config, part)["name"] for part in ("dataset", "model")}
    schedule = {"dense": asdict(config.schedule.dense)}
    materials.tracker.share_baseline(
        Baseline(
            key=entry.name,
            lock=entry.with_suffix(".baseline.lock"),
            name=f"dense {names['model']} on {names['dataset']}, seed {config.seed}",
            params=names | {"seed": config.seed, "schedule": schedule},
            curves=[(r.epoch, epoch_metrics(r)) for r in history.epochs if r.phase == "dense"],
            final=baseline_metrics(dense),
        )
    )


def origin(config: ExperimentConfig, materials: Materials) -> dict[str, Any]:
    """Record where a run comes from: settings, environment, MLflow run; no password."""
    tracker = materials.tracker
    uri = tracker.tracking_uri
    environment = describe_environment(materials.device)
    command = [without_password(word) for word in environment["command"]]
    shown = asdict(config) | {"tracking_uri": without_password(config.tracking_uri)}
    dataset, previous = materials.dataset, materials.previous
    return {
        "config_hash": config_hash(config),
        "group": group_hash(config),
        "seed": config.seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "rounds": previous.rounds() if previous else None,
        "config": shown,
        "environment": environment | {"command": command},
        "mlflow": {
            "tracking_uri": None if uri is None else without_password(uri),
            "experiment": config.experiment_name if tracker.run_id else None,
            "run_id": tracker.run_id,
        },
    }


def deliver(
    report: dict[str, Any],
    materials: Materials,
    dense: nn.Module,
    small: nn.Module,
    run_dir: Path,
    *,
    export: Export,
) -> None:
    """Write networks, figures and the report, and copy them to the tracker.

    Args:
        report: The numbers.
        materials: What the run was made of.
        dense: The network before the pruning.
        small: The finetuned network.
        run_dir: Folder of the run.
        export: What else the small network is written as.
    """
    tracker = materials.tracker
    on_cpu = copy.deepcopy(small).cpu()
    files = save_model(
        on_cpu,
        materials.previous.build_original() if materials.previous else dense,
        materials.builder,
        materials.example_input().cpu(),
        run_dir,
    )
    if export == Export.onnx:
        files += save_onnx(on_cpu, materials.example_input().cpu(), run_dir)
    report["files"] = sorted(path.name for path in files)
    figures = draw_all(report, run_dir / "figures")
    tracker.log_metrics(
        {"surgery.max_abs_difference": report["surgery"]["max_abs_difference"]}
        | final_metrics(report)
        | (inference_metrics(report["inference"]) if report["inference"] else {}),
        step=0,
    )
    write_report(report, run_dir)
    for path in [*files, *(run_dir / name for name in ("layers.yaml", "report.json", "report.md"))]:
        tracker.log_artifact(path)
    for path in figures:
        tracker.log_artifact(path, "figures")
