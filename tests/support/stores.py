"""Stores: one that holds made-up runs, and what commands left in theirs."""

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from admm_exp.tracking.mlflow_tracker import open_tracker

SETTINGS = ("rho", "sparsity", "seed", "dataset", "model", "method", "metric")
FINAL = ("accuracy", "accuracy_after_cut", "accuracy_drop", "macs", "params", "flops_ratio")


def store_uri(folder: Path) -> str:
    """Name the store in a folder."""
    return f"sqlite:///{folder}/mlflow.db"


def log_runs(folder: Path, rows: Iterable[Mapping[str, Any]], experiment: str = "made-up") -> None:
    """Log rows as a run logs itself; those with `iterations` leave a report.json."""
    for row in rows:
        tracker = open_tracker(
            store_uri(folder),
            experiment,
            row["run_name"],
            folder / "artifacts",
            folder / "journal" / "metrics.jsonl",
            tags={"kind": "run", "run_dir": row["run_dir"]} | row.get("tags", {}),
            parent_run_id=row.get("parent"),
        )
        tracker.log_params({name: row[name] for name in SETTINGS} | {"log10_rho": 1.0})
        for each in row.get("iterations", []):
            curves = {f"admm/{k}": v for k, v in each.items() if k != "iteration"}
            tracker.log_metrics(curves, step=each["iteration"])
        tracker.log_metrics({"finetune/val_accuracy": row["val_accuracy"]}, step=1)
        tracker.log_metrics({f"final/{name}": row[name] for name in FINAL}, step=0)
        if "iterations" in row:
            dense = {"macs": row["dense_macs"], "test_accuracy": row["dense_accuracy"]}
            report = {
                "models": {"dense": dense},
                "admm": {"iterations": row["iterations"]},
                "layers": row["layers"],
            }
            path = folder / "report.json"
            path.write_text(json.dumps(report))
            tracker.log_artifact(path)
        tracker.finish(row["status"], row.get("error"))


def store_of(work: Path) -> str:
    """Name the default store of a command that ran in a folder."""
    return f"sqlite:///{work}/outputs/mlflow.db"


def client_at(uri: str) -> Any:
    """Open a store without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own, while it is imported
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri)


def runs_at(uri: str, among: str = "", experiment: str = "admm_exp") -> list[Any]:
    """List the runs of an experiment, in the order they started; none if it is missing."""
    client = client_at(uri)
    found = client.get_experiment_by_name(experiment)
    order = ["attributes.start_time"]
    return list(client.search_runs([found.experiment_id], among, order_by=order)) if found else []
