"""One line a run: what tables and figures compare."""

from collections.abc import Mapping, Sequence
from typing import Any


def result_row(report: Mapping[str, Any], run_name: str, run_dir: str) -> dict[str, Any]:
    """Flatten the report of a finished run.

    Args:
        report: what stands in report.json.
        run_name: name of the run.
        run_dir: folder of the run.

    Returns:
        Settings and results by name; accuracies are test accuracies in [0, 1] unless they say val,
        MACs are per sample, `rho` is that of the first iteration.
    """
    config, models = report["config"], report["models"]
    dense, small = models["dense"], models["finetuned"]
    iterations = report["admm"].get("iterations") or [{}]
    return {
        "run_id": report["mlflow"]["run_id"],
        "run_name": run_name,
        "rho": report["admm"].get("rho"),
        "sparsity": config["sparsity"],
        "seed": config["seed"],
        "metric": config["metric"]["name"],
        "model": config["model"]["name"],
        "dataset": config["dataset"]["name"],
        "method": _method(config),
        "accuracy": small["test_accuracy"],
        "accuracy_after_cut": models["pruned"]["test_accuracy"],
        "accuracy_drop": dense["test_accuracy"] - small["test_accuracy"],
        "macs": small["macs"],
        "flops_ratio": small["flops"] / dense["flops"],
        "params": small["params"],
        "primal_residual": iterations[-1].get("primal_residual"),
        "val_accuracy": small["val_accuracy"],
        "dense_accuracy": dense["test_accuracy"],
        "dense_macs": dense["macs"],
        "status": "finished",
        "run_dir": run_dir,
        "group": report["group"],
    }


def best_per_sparsity(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Choose, for every sparsity, the run with the best validation accuracy; ties go to the first.

    Args:
        rows: result rows.

    Returns:
        One row a sparsity, sparsities rising.
    """
    best: dict[float, Mapping[str, Any]] = {}
    for row in rows:
        known = best.get(row["sparsity"])
        if known is None or row["val_accuracy"] > known["val_accuracy"]:
            best[row["sparsity"]] = row
    return [best[sparsity] for sparsity in sorted(best)]


def _method(config: Mapping[str, Any]) -> str:
    method = config.get("method", "admm")
    return str(method["name"] if isinstance(method, Mapping) else method)
