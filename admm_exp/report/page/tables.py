"""HTML tables of runs and settings."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from admm_exp.report.comparison import Row, Setting, difference
from admm_exp.report.figures.style import count, mean_std, points

UNKNOWN = "–"


@dataclass(frozen=True)
class Cell:
    """What a cell shows, as HTML, and the value by which its column sorts ("" is last)."""

    html: str
    value: float | str = ""
    is_text: bool = False


def settings_table(
    settings: Sequence[Setting],
    against: Mapping[str, Setting] | None = None,
    remarks: Mapping[str, str] | None = None,
) -> str:
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
            "rho": _number(setting.rho, ".3g"),
            "n": _number(setting.n, "d"),
            "validation accuracy": _spread(setting, "val_accuracy"),
            "test accuracy": _spread(setting, "accuracy"),
            "difference": _difference(setting, (against or {}).get(setting.amount)),
            "told apart": _text((remarks or {}).get(setting.amount, "")),
            "after the cut": _spread(setting, "accuracy_after_cut"),
            "drop": _spread(setting, "accuracy_drop"),
            "MACs": _number(_known(setting.mean("macs")), ".3s"),
            "FLOPs ratio": _number(_known(setting.mean("flops_ratio")), ".3f"),
            "params": _number(_known(setting.mean("params")), ".3s"),
            "training MACs": _number(_known(setting.mean("training_macs")), ".3s"),
            "training, s": _number(_known(setting.mean("training_seconds")), ".3s"),
        }
        for setting in settings
    ]
    return _table(lines)


def runs_table(settings: Sequence[Setting], links: Mapping[str, str]) -> str:
    """Lay out one line a run.

    Args:
        settings: The runs, by setting.
        links: Addresses of runs by id; a run without one stands as text.
    """
    lines = [
        {
            "run": _link(row, links),
            **_series(setting),
            "amount": _text(setting.amount),
            "rho": _number(setting.rho, ".3g"),
            "seed": _number(row.get("seed"), "d"),
            "validation accuracy": _number(row.get("val_accuracy"), ".2%"),
            "test accuracy": _number(row.get("accuracy"), ".2%"),
            "after the cut": _number(row.get("accuracy_after_cut"), ".2%"),
            "drop": _number(row.get("accuracy_drop"), ".2%"),
            "MACs": _number(row.get("macs"), ".3s"),
            "FLOPs ratio": _number(row.get("flops_ratio"), ".3f"),
            "params": _number(row.get("params"), ".3s"),
            "training MACs": _number(row.get("training_macs"), ".3s"),
            "training, s": _number(row.get("training_seconds"), ".3s"),
            "latency, ms": _number(row.get("latency_ms"), ".3g"),
            "primal residual": _number(row.get("primal_residual"), ".2g"),
        }
        for setting in settings
        for row in setting.rows
    ]
    return _table(lines)


def unfinished_table(runs: Iterable[Mapping[str, str]]) -> str:
    """Lay out the runs that have no result, with what went wrong."""
    names = {"run_name": "run", "status": "status", "error": "error"}
    lines = [{title: _text(run[key]) for key, title in names.items()} for run in runs]
    return _table(lines)


def _table(lines: Sequence[Mapping[str, Cell]]) -> str:
    """Write a table whose columns sort at a click; columns without any value are left out."""
    titles = [title for title in lines[0] if any(line[title].value != "" for line in lines)]
    head = "".join(f'<th><button type="button">{escape(t)}</button></th>' for t in titles)
    body = "\n".join(
        "<tr>" + "".join(_cell(line[title]) for title in titles) + "</tr>" for line in lines
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    kind = ' class="text"' if cell.is_text else ""
    return f'<td{kind} data-value="{escape(str(cell.value))}">{cell.html}</td>'


def _series(setting: Setting) -> dict[str, Cell]:
    return {"series": _text(setting.series)}


def _text(text: str) -> Cell:
    return Cell(escape(text), text, is_text=True)


def _link(row: Row, links: Mapping[str, str]) -> Cell:
    name, address = str(row.get("run_name")), links.get(str(row.get("run_id")))
    shown = escape(name)
    return Cell(f'<a href="{escape(address)}">{shown}</a>' if address else shown, name, True)


def _number(value: Any, style: str) -> Cell:
    """Format a number; style ".3s" is three digits with k, M, G."""
    if value is None or not math.isfinite(value):
        return Cell(UNKNOWN)
    if style == ".3s":
        return Cell(count(value), value)
    return Cell(format(value, style), value)


def _spread(setting: Setting, name: str) -> Cell:
    found = setting.spread(name)
    if found is None:
        return Cell(UNKNOWN)
    return Cell(mean_std(found), found.mean)


def _difference(setting: Setting, reference: Setting | None) -> Cell:
    if reference is None or reference is setting:
        return Cell("reference" if reference else UNKNOWN, "" if reference is None else 0.0)
    found = difference(setting, reference, "accuracy")
    return Cell(points(found), found.mean) if found else Cell(UNKNOWN)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
