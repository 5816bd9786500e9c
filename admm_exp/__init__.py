"""ADMM structured pruning experiments: compose, sweep, compare."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["ADMMPruner", "Planner", "PruningResult", "load", "read_runs"]

if TYPE_CHECKING:
    from admm_exp.export.saved_model import load
    from admm_exp.pruner.pruner import ADMMPruner
    from admm_exp.pruner.result import PruningResult
    from admm_exp.pruning.budget.planner import Planner
    from admm_exp.tracking.runs import read_runs

_HOMES = {
    "ADMMPruner": "admm_exp.pruner.pruner",
    "Planner": "admm_exp.pruning.budget.planner",
    "PruningResult": "admm_exp.pruner.result",
    "load": "admm_exp.export.saved_model",
    "read_runs": "admm_exp.tracking.runs",
}


def __getattr__(name: str) -> Any:
    """Load a public name, and torch with it, when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
