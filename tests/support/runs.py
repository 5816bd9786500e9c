"""Rows of made-up runs, as `admm_exp.report.comparison` describes them."""

import itertools
from collections.abc import Mapping
from typing import Any

from admm_exp.tracking.params import PARTS

DENSE_MACS = 800_000


def row(rho: float = 0.01, sparsity: float = 0.5, seed: int = 0, **others: Any) -> dict[str, Any]:
    """Make one finished run."""
    accuracy = 0.99 - 0.1 * sparsity**2 + 0.001 * seed
    return {
        "run_id": f"{rho}-{sparsity}-{seed}",
        "run_name": f"rho={rho},sparsity={sparsity}",
        "rho": rho,
        "sparsity": sparsity,
        "seed": seed,
        "dataset": "digits",
        "model": "resnet8",
        "method": "admm",
        "metric": "l2_norm",
        "accuracy": accuracy,
        "accuracy_after_cut": accuracy - 0.1,
        "accuracy_drop": 0.99 - accuracy,
        "val_accuracy": accuracy,
        "macs": DENSE_MACS * (1 - sparsity) ** 2,
        "flops_ratio": (1 - sparsity) ** 2,
        "params": 70_000 * (1 - sparsity) ** 2,
        "primal_residual": 0.1 / rho,
        "dense_accuracy": 0.99,
        "dense_macs": DENSE_MACS,
        "status": "FINISHED",
        "run_dir": "outputs/runs/made-up",
    } | others


def grid(*, seeds: int = 1, **others: Any) -> list[dict[str, Any]]:
    """Make a sweep of two rhos and three sparsities."""
    swept = itertools.product((0.001, 0.1), (0.3, 0.5, 0.7), range(seeds))
    return [row(rho, sparsity, seed, **others) for rho, sparsity, seed in swept]


def details(kept: float = 0.5) -> Mapping[str, Any]:
    """Make what report.json adds: three iterations and two channel groups."""
    names = ("primal_residual", "dual_residual")
    return {
        "iterations": [
            {"iteration": i, "rho": 0.01, **dict.fromkeys(names, 1 / i)} for i in (1, 2, 3)
        ],
        "layers": [
            {"name": name, "channels": 16, "kept": int(16 * kept), "sparsity": 1 - kept, "tied": []}
            for name in ("conv1", "layer1.0.conv1")
        ],
    }


def finished_report() -> dict[str, Any]:
    """Make the least that a finished run's report holds."""
    numbers = {"val_accuracy": 0.5, "test_accuracy": 0.4, "params": 9, "macs": 8, "flops": 16}
    named = {name: {"name": name} for name in PARTS}
    row = {"iteration": 1, "primal_residual": 0.5, "dead_energy": 0.1}
    return {
        "status": "finished",
        "config": named | {"seed": 0, "sparsity": 0.5, "rho": "auto"},
        "models": {name: dict(numbers) for name in ("dense", "pruned", "finetuned")},
        "admm": {"rho": 0.1, "iterations": [row]},
        "layers": [{"name": "conv1", "channels": 8, "kept": 4}],
        "mlflow": {"run_id": None},
    }
