"""One line a run."""

from typing import Any

from support.runs import finished_report

from admm_exp.report.row import result_row
from admm_exp.tracking.params import PARTS


def network(first: int) -> dict[str, Any]:
    """Make numbers that all differ."""
    names = ("val_accuracy", "test_accuracy", "params", "macs", "flops")
    return {name: first + 2**i for i, name in enumerate(names)}


def test_a_row_takes_every_number_from_its_place() -> None:
    models = {"dense": network(100), "pruned": network(200), "finetuned": network(300)}
    named = {name: {"name": f"a {name}"} for name in PARTS}
    iterations = [{"primal_residual": 0.7}, {"primal_residual": 0.3}]
    report = {
        "config": named | {"seed": 4, "sparsity": 0.5, "rho": "auto"},
        "models": models,
        "admm": {"rho": 0.01, "iterations": iterations},
        "layers": ["a layer"],
        "mlflow": {"run_id": "abc"},
    }
    row = result_row(report, "rho=0.01", "outputs/runs/x")
    assert row.pop("settings")["seed"] == "4"
    expected = {
        "run_id": "abc",
        "run_name": "rho=0.01",
        "rho": 0.01,
        "sparsity": 0.5,
        "seed": 4,
        "metric": "a metric",
        "model": "a model",
        "dataset": "a dataset",
        "method": "a method",
        "accuracy": 302,
        "accuracy_after_cut": 202,
        "accuracy_drop": 102 - 302,
        "macs": 308,
        "flops_ratio": 316 / 116,
        "params": 304,
        "primal_residual": 0.3,
        "val_accuracy": 301,
        "dense_accuracy": 102,
        "dense_macs": 108,
        "status": "finished",
        "run_dir": "outputs/runs/x",
        "iterations": iterations,
        "layers": ["a layer"],
    }
    assert {name: row[name] for name in expected} == expected


def test_a_later_round_is_measured_against_the_network_of_the_first() -> None:
    report = finished_report()
    first = report["models"]["dense"] | {"test_accuracy": 1.0, "macs": 8, "flops": 16}
    report["models"] |= {"original": first}
    found = result_row(report, "x", "y")
    small = report["models"]["finetuned"]
    assert (found["dense_accuracy"], found["dense_macs"]) == (1.0, 8)
    assert found["flops_ratio"] == small["flops"] / 16
    assert found["accuracy_drop"] == 1.0 - small["test_accuracy"]
