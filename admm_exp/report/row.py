"""One line a run: what tables and figures compare."""

from collections.abc import Mapping
from typing import Any

from admm_exp.tracking.limits import flatten
from admm_exp.tracking.params import run_params


def result_row(report: Mapping[str, Any], run_name: str, run_dir: str) -> dict[str, Any]:
    """Flatten the report of a finished run.

    Args:
        report: What stands in report.json.
        run_name: Name of the run.
        run_dir: Folder of the run.

    Returns:
        A row as `admm_exp.report.comparison` describes it; accuracies are test accuracies in [0, 1]
        unless they say val, MACs are per sample, `rho` is that of the first iteration.
    """
    config, models = report["config"], report["models"]
    dense, small = models.get("original", models["dense"]), models["finetuned"]
    iterations = report["admm"]["iterations"]
    return {
        "run_id": report["mlflow"]["run_id"],
        "run_name": run_name,
        "rho": report["admm"]["rho"],
        "sparsity": config["sparsity"],
        "seed": config["seed"],
        "metric": config["metric"]["name"],
        "model": config["model"]["name"],
        "dataset": config["dataset"]["name"],
        "method": config["method"]["name"],
        "accuracy": small["test_accuracy"],
        "accuracy_after_cut": models["pruned"]["test_accuracy"],
        "accuracy_drop": dense["test_accuracy"] - small["test_accuracy"],
        "macs": small["macs"],
        "flops_ratio": small["flops"] / dense["flops"],
        "params": small["params"],
        "primal_residual": iterations[-1]["primal_residual"] if iterations else None,
        "val_accuracy": small["val_accuracy"],
        **{f"training_{key}": report.get("training", {}).get(key) for key in ("macs", "seconds")},
        "dense_accuracy": dense["test_accuracy"],
        "dense_macs": dense["macs"],
        "status": "finished",
        "run_dir": run_dir,
        "settings": flatten(run_params(config, report["admm"]["rho"])),
        "iterations": report["admm"]["iterations"],
        "layers": report["layers"],
    }
