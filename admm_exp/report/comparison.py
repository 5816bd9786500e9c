"""What several runs say together: seeds summed up, the Pareto front, the best per sparsity.

A row is a plain mapping that describes one finished run: `run_id`, `run_name`, `rho`, `sparsity`,
`seed`, `dataset`, `model`, `method`, `metric`, `accuracy` (test), `accuracy_after_cut`,
`accuracy_drop`, `val_accuracy`, `macs`, `params`, `flops_ratio`, `primal_residual` (the last),
`dense_accuracy`, `dense_macs`, `training_macs` and `training_seconds` (after the dense network).
`iterations` and `layers`, as they stand in report.json, and
`settings`, all parameters of the run, may be there too.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from admm_exp.config.hashes import INCIDENTAL, INCIDENTAL_TO_TRAINER
from admm_exp.statistics import Paired, Spread, paired, spread_of

Row = Mapping[str, Any]

NOT_TOLD = {
    *INCIDENTAL,
    *(f"trainer.{name}" for name in INCIDENTAL_TO_TRAINER),
    *("run_id", "run_name", "dataset.root", "dataset.download", "dataset.workers"),
}
BUDGETS = ("macs", "params", "latency")
AXES = {
    *("rho", "log10_rho", "rho_setting", "sparsity", "seed"),
    *(f"budget.{name}" for name in BUDGETS),
}
UNSET = (None, "None", "null", "")
REFERENCE_METHOD = "oneshot"
MAX_NAMED = 3
SERIES = ("dataset", "model", "method", "metric")


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seed alone.

    Args:
        series: What else is swept, "" if nothing.
        rho: Penalty parameter of the first iteration.
        amount: How much was to be removed: "sparsity 0.5", or what may remain, "macs 0.3".
        sparsity: Fraction removed as asked for; NaN if something else decided.
        rows: The runs; of one seed there may be several.
    """

    series: str
    rho: float
    amount: str
    sparsity: float
    rows: tuple[Row, ...]

    @property
    def key(self) -> tuple[str, str, float]:
        """What tells this setting from the others."""
        return self.series, self.amount, self.rho

    @property
    def n(self) -> int:
        """Number of distinct seeds."""
        return len({row.get("seed") for row in self.rows})

    def by_seed(self, name: str) -> dict[Hashable, float]:
        """Read one number of every seed; runs of one seed count once, with their mean."""
        found: dict[Hashable, list[float]] = {}
        for row in self.rows:
            value = row.get(name)
            if value is not None and math.isfinite(value):
                found.setdefault(row.get("seed"), []).append(float(value))
        return {seed: fmean(values) for seed, values in found.items()}

    def spread(self, name: str) -> Spread | None:
        """Sum one number up over the seeds; None if no run has it."""
        return spread(self.by_seed(name).values())

    def mean(self, name: str) -> float:
        """Average one number over the seeds; NaN if no run has it."""
        found = self.spread(name)
        return math.nan if found is None else found.mean


def spread(values: Iterable[float | None]) -> Spread | None:
    """Sum numbers up, None of nothing; what is missing or not finite is left out."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return spread_of(known) if known else None


def lacking(row: Row) -> list[str]:
    """Name what a run must say to be compared, and does not."""
    return [name for name in ("accuracy", "rho", "sparsity") if row.get(name) is None]


def group_settings(rows: Sequence[Row]) -> list[Setting]:
    """Put the runs that differ by their seed alone together.

    Returns:
        Settings by series, amount and rho; runs without accuracy, rho or sparsity are left out.
    """
    complete = [row for row in rows if not lacking(row)]
    described = [_described(row) for row in complete]
    names = _swept(described)
    groups: dict[tuple[str, tuple[str, float], float], list[Row]] = {}
    for row, known in zip(complete, described, strict=True):
        series = ", ".join(f"{name}={known[name]}" for name in names if name in known)
        groups.setdefault((series, _amount(row), float(row["rho"])), []).append(row)
    return [
        Setting(
            series,
            rho,
            f"{quantity} {amount:g}" if math.isfinite(amount) else quantity,
            amount if quantity == "sparsity" else math.nan,
            tuple(sorted(group, key=_seed)),
        )
        for (series, (quantity, amount), rho), group in sorted(
            groups.items(), key=lambda item: item[0]
        )
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


def by_amount(settings: Sequence[Setting]) -> dict[str, list[Setting]]:
    """Put the settings that were to remove the same amount together, in its order."""
    groups: dict[str, list[Setting]] = {}
    for setting in sorted(settings, key=lambda s: (math.isnan(s.sparsity), s.sparsity, s.amount)):
        groups.setdefault(setting.amount, []).append(setting)
    return groups


def best_per_amount(settings: Sequence[Setting]) -> list[Setting]:
    """Find the setting with the highest validation accuracy of every amount, in its order.

    Among equals it is the one whose ADMM has converged further.
    """
    judge = judged_by(settings)
    return [min(group, key=lambda s: _worse(s, judge)) for group in by_amount(settings).values()]


def foremost(settings: Sequence[Setting], number: int) -> list[Setting]:
    """Put the settings that matter in front: the best of each amount, then the second best...

    Args:
        settings: The settings.
        number: How many matter.

    Returns:
        Those by amount and from the best on, then the others in the same order.
    """
    judge = judged_by(settings)
    ranked: list[tuple[int, Setting]] = []
    for group in by_amount(settings).values():
        ranked += enumerate(sorted(group, key=lambda s: _worse(s, judge)))
    chosen = {s.key for _, s in sorted(ranked, key=lambda pair: pair[0])[:number]}
    ordered = [setting for _, setting in ranked]
    return [s for s in ordered if s.key in chosen] + [s for s in ordered if s.key not in chosen]


def difference(setting: Setting, reference: Setting, name: str) -> Paired | None:
    """Compare one number of two settings seed by seed; None if they share no seed."""
    return paired(setting.by_seed(name), reference.by_seed(name))


def rivals(best: Setting, settings: Sequence[Setting]) -> list[Setting]:
    """List the settings of the same amount that the best one is not told apart from.

    That is what more than 2 standard errors of the paired difference would do, in the accuracy that
    the choice was made on.
    """
    judge = judged_by(settings)
    others = [s for s in settings if s.amount == best.amount and s is not best]
    return [
        other
        for other in others
        if (found := difference(best, other, judge)) is None or not found.is_told_apart
    ]


def remark(best: Setting, settings: Sequence[Setting]) -> str:
    """Say whether the best setting of its amount is told apart from the others."""
    others = [s for s in settings if s.amount == best.amount and s is not best]
    if not others:
        return ""
    alike = rivals(best, settings)
    if not alike:
        return "from all others"
    seeds = min(s.n for s in (best, *alike))
    names = "; ".join(named(s) for s in alike[:MAX_NAMED])
    more = f" and {len(alike) - MAX_NAMED} more" if len(alike) > MAX_NAMED else ""
    advice = f"add 'seed=range({max(5, 2 * seeds)})'"
    return f"not from {names}{more} with {seeds} seed{'s' * (seeds != 1)}: {advice}"


def named(setting: Setting) -> str:
    """Name a setting among those of its amount."""
    has_rho = setting.rows[0].get("method", "admm") == "admm" or not setting.series
    return ", ".join(filter(None, (setting.series, f"rho={setting.rho:.3g}" if has_rho else "")))


def references(settings: Sequence[Setting]) -> dict[str, Setting]:
    """Choose what the settings of every amount are compared to, where there are several.

    It is one-shot pruning where that is one of several methods, otherwise the best setting; of
    several with one-shot the best of them.
    """
    judge, chosen = judged_by(settings), {}
    for amount, group in by_amount(settings).items():
        oneshot = [s for s in group if s.rows[0].get("method") == REFERENCE_METHOD]
        among = oneshot if 0 < len(oneshot) < len(group) else group
        if len(group) > 1:
            chosen[amount] = min(among, key=lambda s: _worse(s, judge))
    return chosen


def judged_by(settings: Sequence[Setting]) -> str:
    """Name the accuracy that choices are made on: validation, if every setting has it."""
    has_all = all(setting.spread("val_accuracy") for setting in settings)
    return "val_accuracy" if has_all else "accuracy"


def _worse(setting: Setting, judge: str) -> tuple[float, float]:
    """Order settings from the best on: by accuracy, then by the primal residual."""
    residual = setting.mean("primal_residual")
    return -setting.mean(judge), math.inf if math.isnan(residual) else residual


def _amount(row: Row) -> tuple[str, float]:
    """Read how much was to be removed: by a budget, a layers file, or the sparsity they replace."""
    settings = row.get("settings") or {}
    for quantity in BUDGETS:
        if (asked := settings.get(f"budget.{quantity}")) not in UNSET:
            return _asked(quantity, str(asked))
    if (layers := settings.get("layers")) not in UNSET:
        return f"layers {Path(str(layers)).name}", math.inf
    return "sparsity", float(row["sparsity"])


def _asked(quantity: str, text: str) -> tuple[str, float]:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    return (quantity, amount) if math.isfinite(amount) else (f"{quantity} {text}", math.inf)


def _described(row: Row) -> dict[str, str]:
    fields = {name: row[name] for name in SERIES if row.get(name) is not None}
    known = {"method": "admm"} | fields | dict(row.get("settings") or {})
    return {key: str(value) for key, value in known.items() if _tells_apart(key)}


@cache
def _tells_apart(key: str) -> bool:
    return key not in AXES | NOT_TOLD and key.rpartition(".")[2] != "seed"


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
