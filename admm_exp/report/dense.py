"""The dense networks that runs start from."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from admm_exp.report.comparison import Row, spread
from admm_exp.statistics import Spread


@dataclass(frozen=True)
class Dense:
    """The dense network that runs start from: MACs per sample, test accuracy over the seeds."""

    label: str
    macs: float
    accuracy: Spread


def dense_networks(rows: Sequence[Row]) -> list[Dense]:
    """Sum up the dense networks that the runs start from, one a model and data set."""
    groups: dict[tuple[Any, Any], dict[Any, Row]] = {}
    for row in rows:
        if row.get("dense_macs") is not None and row.get("dense_accuracy") is not None:
            by_seed = groups.setdefault((row.get("model"), row.get("dataset")), {})
            by_seed[row.get("seed")] = row  # runs of one seed share their dense network
    found = []
    for (model, dataset), by_seed in groups.items():
        accuracy = spread(row["dense_accuracy"] for row in by_seed.values())
        macs = median(float(row["dense_macs"]) for row in by_seed.values())
        if accuracy is not None:
            found.append(Dense(f"dense {model} on {dataset}", macs, accuracy))
    return found
