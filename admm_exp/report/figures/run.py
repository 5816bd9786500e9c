"""Figures of one run, drawn from the plain numbers of its report."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from admm_exp.report.figures.pruning import has_moved, outcome_at, support_at
from admm_exp.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    PURPLE,
    VERMILION,
    column,
    count_in_whole_numbers,
    figure_at,
    has_values,
    positive,
    shortened,
    use_log_axis,
)
from admm_exp.report.wording import percent, tick_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BANDS = {"dense": "#EFEFEF", "finetune": "#E2F2EB", "scratch": "#E2F2EB"}
PRUNING_BAND = "#FFF1D6"
AFTER_CUT = ("finetune", "scratch")

Report = Mapping[str, Any]


def draw_all(report: Report, folder: Path) -> list[Path]:
    """Draw every figure that the report has data for.

    Args:
        report: Contents of report.json, with `history` as rows of an epoch each.
        folder: Where the PNGs go; created if missing.

    Returns:
        The files written.
    """
    drawings: dict[str, tuple[object, Callable[[Report, Path], None]]] = {
        "residuals.png": (_iterations(report), residuals),
        "pruning.png": (report.get("layers") and report.get("models"), outcome_at),
        "support.png": (has_moved(report), support_at),
        "training.png": (report.get("history"), training),
        "sensitivity.png": ((report.get("budget") or {}).get("sensitivity"), sensitivity),
    }
    written = []
    for name, (data, draw) in drawings.items():
        if data:
            draw(report, folder / name)
            written.append(folder / name)
    return written


def sensitivity(report: Report, path: Path) -> None:
    """Draw what every channel group costs on its own: validation accuracy over its sparsity.

    Args:
        report: Needs `budget.sensitivity`.
        path: PNG to write.
    """
    curves = report["budget"]["sensitivity"]
    reached = {row["name"]: row["sparsity"] for row in report["layers"]}
    at_end = sorted(curves, key=lambda curve: curve["accuracy"][-1])
    named = {curve["name"] for curve in [*at_end[:3], *at_end[-2:]]}
    with figure_at(path, 4.2) as figure:
        axes = figure.subplots()
        for curve in curves:
            name = curve["name"]
            style = {"label": shortened(name)} if name in named else {"color": LIGHT, "zorder": 1}
            (line,) = axes.plot(curve["sparsity"], curve["accuracy"], marker=".", **style)
            axes.axvline(reached[name], ymax=0.03, color=line.get_color())
        axes.yaxis.set_major_formatter(tick_percent)
        axes.set(xlabel="sparsity of one group (ticks: chosen)", ylabel="validation accuracy")
        axes.legend(title="most and least sensitive")


def residuals(report: Report, path: Path) -> None:
    """Draw whether ADMM converges: residuals over tolerances, what a cut costs, what still moves.

    Args:
        report: Needs `admm.iterations`.
        path: PNG to write.
    """
    rows = _iterations(report)
    steps = column(rows, "iteration")
    with figure_at(path, 6.6) as figure:
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 2])
        for name, color, marker in (("primal", BLUE, "o"), ("dual", VERMILION, "s")):
            excesses = positive(_excess_of(row, name) for row in rows)
            if has_values(excesses):
                top.plot(steps, excesses, color=color, marker=marker, label=f"{name} residual")
        use_log_axis(top)
        low, high = top.get_ylim()
        top.axhspan(low, 1.0, color=BANDS["finetune"], zorder=0, label="converged")
        top.set_ylim(low, max(high, 1.5))
        top.axhline(1.0, color=GREEN, linewidth=1.2)
        top.set(title=_verdict(rows), ylabel="x tolerance (log)")
        _draw_accuracies(middle, rows)
        for name, color, marker in (("support_change", PURPLE, "^"), ("dead_energy", GREEN, "D")):
            label = {"dead_energy": "energy to be cut"}.get(name, name.replace("_", " "))
            bottom.plot(steps, column(rows, name), color=color, marker=marker, label=label)
        bottom.set_ylim(0, max(0.01, bottom.get_ylim()[1]))
        bottom.set(xlabel=_rho_range(rows), ylabel="fraction")
        bottom.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
        count_in_whole_numbers(bottom)
        for axes in (top, middle, bottom):
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_accuracies(axes: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    steps = column(rows, "iteration")
    trained, projected = column(rows, "val_accuracy"), column(rows, "projected_val_accuracy")
    lost = [a > b for a, b in zip(trained, projected, strict=True)]
    style: Any = {"where": lost, "interpolate": True, "color": LIGHT}
    axes.fill_between(steps, trained, projected, **style, label="a cut now costs")
    axes.plot(steps, trained, color=GREY, marker="o", label="as trained")
    axes.plot(steps, projected, color=BLUE, marker="s", label="if cut now")
    axes.set_ylabel("val accuracy")
    axes.yaxis.set_major_formatter(tick_percent)


def _rho_range(rows: Sequence[Mapping[str, Any]]) -> str:
    rhos = column(rows, "rho")
    path = f"{rhos[0]:.3g}" if rhos[0] == rhos[-1] else f"{rhos[0]:.3g} to {rhos[-1]:.3g}"
    return f"ADMM iteration (rho {path})"


def training(report: Report, path: Path) -> None:
    """Draw train loss and validation accuracy over all phases, and what the cut costs.

    Args:
        report: Needs `history`; `models` adds the cut and the dense accuracy.
        path: PNG to write.
    """
    phases = list(_phases(report["history"]))
    with figure_at(path, 6.6) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for axes in (top, bottom):
            for name, epochs, _ in phases:
                color = BANDS.get(name, PRUNING_BAND)
                axes.axvspan(epochs[0] - 0.5, epochs[-1] + 0.5, color=color, zorder=0)
        for _, epochs, rows in phases:
            marker = "o" if len(epochs) < 40 else ""
            loss, accuracy = positive(column(rows, "train_loss")), column(rows, "val_accuracy")
            top.plot(epochs, loss, color=VERMILION, marker=marker, markersize=3)
            bottom.plot(epochs, accuracy, color=BLUE, marker=marker, markersize=3)
        _name_bands(top, phases)
        _mark_cut(report, phases, [top, bottom])
        _mark_dense(report, bottom)
        use_log_axis(top)
        top.set_ylabel("train loss (log)")
        bottom.set(xlabel="epoch", ylabel="validation accuracy")
        bottom.yaxis.set_major_formatter(tick_percent)
        bottom.set_xlim(0.5, phases[-1][1][-1] + 0.5)
        count_in_whole_numbers(bottom)
        figure.suptitle(_outcome(report), x=0.01, ha="left", fontsize=13, fontweight="bold")
        if report.get("models"):
            figure.legend(loc="outside lower center", ncols=2)


def _iterations(report: Report) -> Sequence[Mapping[str, Any]]:
    return (report.get("admm") or {}).get("iterations") or []


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether both residuals stay below their tolerances, and since when.

    The dual one is 0 throughout where Z follows W on a support that stays (w_step=reduced).
    """
    last = rows[-1]["iteration"]
    ratio, name = _excess(rows[-1])
    if math.isnan(ratio):
        return f"ADMM residuals up to iteration {last}"
    if ratio > 1:
        return f"Not converged: {name} residual is {ratio:.3g} x eps after iteration {last}"
    *_, first = takewhile(lambda row: _excess(row)[0] <= 1, reversed(rows))
    is_dual_seen = any(column(rows, "dual_residual"))
    who = "both residuals" if is_dual_seen else "the primal residual"
    never = "" if is_dual_seen else " (the dual is 0)"
    return f"Converged: {who} below eps since iteration {first['iteration']}{never}"


def _excess(row: Mapping[str, Any]) -> tuple[float, str]:
    """Return the larger residual in units of its tolerance (NaN if unknown), and its name."""
    ratios = [(_excess_of(row, name), name) for name in ("primal", "dual")]
    return next((pair for pair in ratios if math.isnan(pair[0])), max(ratios))


def _excess_of(row: Mapping[str, Any], name: str) -> float:
    residual, eps = (column([row], key)[0] for key in (f"{name}_residual", f"eps_{name}"))
    return residual / eps if eps else math.nan


Phase = tuple[str, list[int], list[Mapping[str, Any]]]


def _phases(history: Sequence[Mapping[str, Any]]) -> Iterator[Phase]:
    """Yield each phase with its place on the common epoch axis, which counts from 1."""
    done = 0
    for name, group in groupby(history, key=lambda row: str(row["phase"])):
        rows = list(group)
        yield name, list(range(done + 1, done + 1 + len(rows))), rows
        done += len(rows)


def _name_bands(axes: "Axes", phases: Sequence[Phase]) -> None:
    """Write the phases' names above their bands, a line higher where the last one is near."""
    total = phases[-1][1][-1]
    last, level = -math.inf, 0
    for name, epochs, _ in phases:
        center = (epochs[0] + epochs[-1]) / 2
        level = level + 1 if center - last < 0.12 * total else 0
        axes.annotate(
            name,
            (center, 1.0),
            (0, 4 + 15 * level),
            axes.get_xaxis_transform(),
            "offset points",
            ha="center",
            color=GREY,
        )
        last = center


def _mark_cut(report: Report, phases: Sequence[Phase], panels: Sequence["Axes"]) -> None:
    pruned = (report.get("models") or {}).get("pruned")
    if not pruned:
        return
    before = [epochs[-1] for name, epochs, _ in phases if name not in AFTER_CUT]
    cut = max(before, default=0) + 0.5
    for axes in panels:
        axes.axvline(cut, color="black", linewidth=1.2)
    accuracy = float(pruned["val_accuracy"])
    label = f"right after the cut: {percent(accuracy)}"
    panels[-1].plot([cut], [accuracy], "kX", markersize=10, label=label, clip_on=False, zorder=5)


def _mark_dense(report: Report, axes: "Axes") -> None:
    dense = (report.get("models") or {}).get("dense")
    if dense:
        accuracy = float(dense["val_accuracy"])
        label = f"dense network: {percent(accuracy)}"
        axes.axhline(accuracy, color=GREY, linestyle=":", linewidth=1.4, label=label)


def _outcome(report: Report) -> str:
    models = report.get("models") or {}
    if "finetuned" not in models or "dense" not in models:
        return "Training over all phases"
    small, dense = (percent(models[name]["val_accuracy"]) for name in ("finetuned", "dense"))
    return f"Small network: {small} validation accuracy after finetuning, dense: {dense}"
