"""What several runs say together: seeds summed up, the Pareto front, the best per sparsity.

A row is a plain mapping that describes one finished run: `run_id`, `run_name`, `rho`, `sparsity`,
`seed`, `dataset`, `model`, `method`, `metric`, `accuracy` (test), `accuracy_after_cut`,
`accuracy_drop`, `val_accuracy`, `macs`, `params`, `flops_ratio`, `primal_residual` (the last),
`dense_accuracy`, `dense_macs`. `iterations` and `layers`, as they stand in report.json, and
`settings`, all parameters of the run, may be there too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from statistics import median
from typing import Any

from admm_exp.statistics import Spread, spread_of

Row = Mapping[str, Any]

AXES = {"rho", "log10_rho", "rho_setting", "sparsity", "seed"}
INCIDENTAL = {
    *("run_id", "run_name", "name", "experiment_name", "device", "force"),
    *("dataset.root", "dataset.download", "dataset.workers"),
}
SERIES = ("dataset", "model", "method", "metric")


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seed alone; `series` says what else is swept, "" if nothing."""

    series: str
    rho: float
    sparsity: float
    rows: tuple[Row, ...]

    def spread(self, name: str) -> Spread | None:
        """Sum one number up over the seeds; None if no run has it."""
        return spread(row.get(name) for row in self.rows)

    def mean(self, name: str) -> float:
        """Average one number over the seeds; NaN if no run has it."""
        found = self.spread(name)
        return math.nan if found is None else found.mean


@dataclass(frozen=True)
class Dense:
    """The dense network that runs start from: MACs per sample, test accuracy over the seeds."""

    label: str
    macs: float
    accuracy: Spread


def spread(values: Iterable[float | None]) -> Spread | None:
    """Sum numbers up, None of nothing; what is missing or not finite is left out."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return spread_of(known) if known else None


def settings_of(rows: Sequence[Row]) -> list[Setting]:
    """Put the runs that differ by their seed alone together.

    Returns:
        Settings by series, sparsity and rho; runs without accuracy, rho or sparsity are left out.
    """
    needed = ("accuracy", "rho", "sparsity")
    complete = [row for row in rows if all(row.get(name) is not None for name in needed)]
    described = [_described(row) for row in complete]
    names = _swept(described)
    groups: dict[tuple[str, float, float], list[Row]] = {}
    for row, known in zip(complete, described, strict=True):
        series = ", ".join(f"{name}={known[name]}" for name in names if name in known)
        key = (series, float(row["sparsity"]), float(row["rho"]))
        groups.setdefault(key, []).append(row)
    return [
        Setting(series, rho, sparsity, tuple(sorted(group, key=_seed)))
        for (series, sparsity, rho), group in sorted(groups.items(), key=lambda item: item[0])
    ]


def pareto_front(settings: Sequence[Setting]) -> list[Setting]:
    """Find the settings that no other one beats in both MACs and validation accuracy.

    The choice is made on validation data, so that test accuracy on the front stays an estimate;
    on test accuracy only if some setting has no validation accuracy.

    Returns:
        The front, from few MACs to many.
    """
    judge = judged_by(settings)
    best = -math.inf
    front = []
    for setting in sorted(settings, key=lambda s: (s.mean("macs"), _worse(s, judge))):
        if setting.mean(judge) > best and math.isfinite(setting.mean("macs")):
            best = setting.mean(judge)
            front.append(setting)
    return front


def best_per_sparsity(settings: Sequence[Setting]) -> list[Setting]:
    """Find the setting with the highest validation accuracy of every sparsity, in its order.

    Among equals it is the one whose ADMM has converged further.
    """
    judge = judged_by(settings)
    return [
        min(group, key=lambda s: _worse(s, judge))
        for _, group in groupby(sorted(settings, key=_sparsity), key=_sparsity)
    ]


def judged_by(settings: Sequence[Setting]) -> str:
    """Name the accuracy that choices are made on: validation, if every setting has it."""
    has_all = all(setting.spread("val_accuracy") for setting in settings)
    return "val_accuracy" if has_all else "accuracy"


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


def _worse(setting: Setting, judge: str) -> tuple[float, float]:
    """Order settings from the best on: by accuracy, then by the primal residual."""
    residual = setting.mean("primal_residual")
    return -setting.mean(judge), math.inf if math.isnan(residual) else residual


def _sparsity(setting: Setting) -> float:
    return setting.sparsity


def _described(row: Row) -> dict[str, str]:
    fields = {name: row[name] for name in SERIES if row.get(name) is not None}
    known = {"method": "admm"} | fields | dict(row.get("settings") or {})
    return {key: str(value) for key, value in known.items() if _tells_apart(key)}


@cache
def _tells_apart(key: str) -> bool:
    return key not in AXES | INCIDENTAL and key.rpartition(".")[2] != "seed"


def _swept(described: Sequence[Mapping[str, str]]) -> list[str]:
    """List what varies beside rho, sparsity and seed; `model` stands for all of `model.*`."""
    values: dict[str, set[str]] = {}
    for known in described:
        for name, value in known.items():
            values.setdefault(name, set()).add(value)
    varying = [name for name, different in values.items() if len(different) > 1]
    heads = {name for name in varying if "." not in name}
    return sorted(
        name
        for name in varying
        if name in heads or not any(name.startswith(f"{h}.") for h in heads)
    )


def _seed(row: Row) -> float:
    return float(row.get("seed") or 0)
