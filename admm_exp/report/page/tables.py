"""Tables of runs and settings, as texts beside the values by which they sort."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from admm_exp.report.comparison import Row, Setting, difference, foremost
from admm_exp.report.wording import UNKNOWN, count, mean_std, percent, points

SHOWN = 100


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the value by which its column sorts ("" is last)."""

    text: str
    value: float | str = ""
    is_text: bool = False
    address: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of which a page shows the first `SHOWN` lines at once; `ids` name the lines."""

    titles: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]
    ids: tuple[str, ...] = ()


def settings_table(
    settings: Sequence[Setting],
    against: Mapping[str, Setting] | None = None,
    remarks: Mapping[str, str] | None = None,
) -> Table:
    """Lay out one line a setting: mean ± std over its seeds and their number.

    Args:
        settings: The settings.
        against: What the settings of an amount are compared to, seed by seed.
        remarks: What is to be said of the setting of an amount, in a column "told apart".
    """
    lines = [
        {
            **_series(setting),
            "amount": _text(setting.amount),
            "rho": _number(setting.rho, "{:.3g}".format),
            "n": _number(setting.n, str),
            "validation accuracy": _spread(setting, "val_accuracy"),
            "test accuracy": _spread(setting, "accuracy"),
            "difference": _difference(setting, (against or {}).get(setting.amount)),
            "told apart": _text((remarks or {}).get(setting.amount, "")),
            "after the cut": _spread(setting, "accuracy_after_cut"),
            "drop": _spread(setting, "accuracy_drop"),
            "MACs": _number(setting.mean("macs"), count),
            "FLOPs ratio": _number(setting.mean("flops_ratio"), "{:.3f}".format),
            "params": _number(setting.mean("params"), count),
            "training MACs": _number(setting.mean("training_macs"), count),
            "training, s": _number(setting.mean("training_seconds"), count),
        }
        for setting in settings
    ]
    return _table(lines)


def runs_table(settings: Sequence[Setting], links: Mapping[str, str]) -> Table:
    """Lay out one line a run, those that matter first.

    Args:
        settings: The runs, by setting.
        links: Addresses of runs by id; a run without one stands as text.
    """
    total = sum(len(setting.rows) for setting in settings)
    ordered = foremost(settings, max(1, SHOWN * len(settings) // max(total, 1)))
    runs = [(setting, row) for setting in ordered for row in setting.rows]
    lines = [
        {
            "run": _link(row, links),
            **_series(setting),
            "amount": _text(setting.amount),
            "rho": _number(setting.rho, "{:.3g}".format),
            "seed": _number(row.get("seed"), str),
            "validation accuracy": _number(row.get("val_accuracy"), percent),
            "test accuracy": _number(row.get("accuracy"), percent),
            "after the cut": _number(row.get("accuracy_after_cut"), percent),
            "drop": _number(row.get("accuracy_drop"), percent),
            "MACs": _number(row.get("macs"), count),
            "FLOPs ratio": _number(row.get("flops_ratio"), "{:.3f}".format),
            "params": _number(row.get("params"), count),
            "training MACs": _number(row.get("training_macs"), count),
            "training, s": _number(row.get("training_seconds"), count),
            "latency, ms": _number(row.get("latency_ms"), "{:.3g}".format),
            "primal residual": _number(row.get("primal_residual"), "{:.2g}".format),
        }
        for setting, row in runs
    ]
    return _table(lines, [str(row.get("run_id")) for _, row in runs])


def unfinished_table(runs: Iterable[Mapping[str, str]]) -> Table:
    """Lay out the runs that have no result, with what went wrong."""
    names = {"run_name": "run", "status": "status", "error": "error"}
    lines = [{title: _text(run[key]) for key, title in names.items()} for run in runs]
    return _table(lines)


def _table(lines: Sequence[Mapping[str, Cell]], ids: Sequence[str] = ()) -> Table:
    """Leave the columns without any value out."""
    titles = [title for title in lines[0] if any(line[title].value != "" for line in lines)]
    kept = tuple(tuple(line[title] for title in titles) for line in lines)
    return Table(tuple(titles), kept, tuple(ids))


def _series(setting: Setting) -> dict[str, Cell]:
    return {"series": _text(setting.series)}


def _text(text: str) -> Cell:
    return Cell(text, text, is_text=True)


def _link(row: Row, links: Mapping[str, str]) -> Cell:
    name = str(row.get("run_name"))
    return Cell(name, name, is_text=True, address=links.get(str(row.get("run_id"))))


def _number(value: Any, written: Callable[[Any], str]) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell(UNKNOWN)
    return Cell(written(value), value)


def _spread(setting: Setting, name: str) -> Cell:
    found = setting.spread(name)
    return Cell(mean_std(found), "" if found is None else found.mean)


def _difference(setting: Setting, reference: Setting | None) -> Cell:
    if reference is None:
        return Cell(UNKNOWN)
    if reference is setting:
        return Cell("reference", 0.0)
    found = difference(setting, reference, "accuracy")
    return Cell(points(found), "" if found is None else found.mean)
