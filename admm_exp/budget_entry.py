"""A budget in the report: what was asked for and what was reached."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from admm_exp.config import BudgetSettings
from admm_exp.pruning.latency import LatencyRatio
from admm_exp.pruning.sensitivity import Curve


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


def budget_sentence(budget: Mapping[str, Any]) -> str:
    """Say what of the dense network should remain and what does."""
    noise = f" (+- {budget['spread']:.1%})" if "spread" in budget else ""
    batch = f" at batch {budget['batch_size']}" if "batch_size" in budget else ""
    sentence = (
        f"Budget: {budget['asked']:.1%} of the dense network's {budget['quantity']}{batch}, "
        f"{budget['reached']:.1%}{noise} reached on the cut network."
    )
    figure = "![sensitivity](figures/sensitivity.png)"
    return f"{sentence}\n\n{figure}" if budget["sensitivity"] else sentence
