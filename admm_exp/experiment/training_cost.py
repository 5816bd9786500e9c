"""What the training of a run took: multiply-adds and seconds, phase by phase."""

from collections.abc import Mapping
from typing import Any

from admm_exp.results import History

PASSES = 3
"""A training step in forward passes: one forward, and backward to activations and to weights."""
ON_SMALL = ("finetune", "scratch")
"""Phases that train the small network; all others train the wide one."""


def training_cost(
    history: History, models: Mapping[str, Mapping[str, Any]], n_samples: int
) -> dict[str, Any]:
    """Count multiply-adds of forward and backward passes, and seconds.

    Validation counts in the seconds and not in the multiply-adds; a teacher's passes count in the
    seconds alone.

    Args:
        history: Epochs and phases of the run; a dense network from the cache has its epochs.
        models: Cost of dense and finetuned network.
        n_samples: Training samples of an epoch.

    Returns:
        `macs` and `seconds` of all training after the dense network, and `phases` with those of
        each phase, the dense one included.
    """
    spent = {phase.name: phase.seconds for phase in history.phases if not phase.cached}
    phases = []
    for name in dict.fromkeys(record.phase for record in history.epochs):
        epochs = [record for record in history.epochs if record.phase == name]
        network = models["finetuned" if name in ON_SMALL else "dense"]
        phases.append(
            {
                "name": name,
                "epochs": len(epochs),
                "macs": PASSES * network["macs"] * n_samples * len(epochs),
                "seconds": spent.get(name, sum(record.seconds for record in epochs)),
            }
        )
    after = [phase for phase in phases if phase["name"] != "dense"]
    totals = {key: sum(phase[key] for phase in after) for key in ("macs", "seconds")}
    return {**totals, "phases": phases}
