"""What pruning did: where the accuracy went, and what is left of every channel group."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from admm_exp.report.figures.style import (
    BLUE,
    GREY,
    LIGHT,
    column,
    count_in_whole_numbers,
    figure_at,
    in_style,
    new_figure,
    shortened,
)
from admm_exp.report.wording import count, percent, tick_percent
from admm_exp.results import kept_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from admm_exp.report.figures.notebook import NotebookFigure

MAX_GROUPS = 40
MAX_PANELS, COLUMNS = 12, 3
STAGES = {
    "dense": "dense",
    "before": "before the cut",
    "pruned": "after the cut",
    "recalibrated": "recalibrated",
    "finetuned": "finetuned",
}

Layer = Mapping[str, Any]
Stages = Mapping[str, float]


def outcome_at(report: Mapping[str, Any], path: Path) -> None:
    """Draw what a run's pruning did.

    Args:
        report: Needs `layers` and `models`.
        path: PNG to write.
    """
    models, kind = report["models"], "test_accuracy"
    found = {name: models[name].get(kind) for name in STAGES if name in models}
    found["before"] = (report.get("admm") or {}).get(kind)
    stages = {name: found[name] for name in STAGES if found.get(name) is not None}
    layers = _largest(report["layers"])
    with figure_at(path, _height(layers)) as figure:
        _draw(figure, stages, layers, report["layers"], "test accuracy")


def outcome(stages: Stages, layers: Sequence[Layer], accuracy_name: str) -> "NotebookFigure":
    """Draw what pruning did, for a notebook.

    Args:
        stages: Accuracy in [0, 1] of the stages known, by the names of `STAGES`.
        layers: One mapping a group: name, channels, kept, and macs and kept_macs if known.
        accuracy_name: What the accuracy is.
    """
    from admm_exp.report.figures.notebook import NotebookFigure

    shown = _largest(layers)
    with in_style(), new_figure(_height(shown), NotebookFigure) as figure:
        _draw(figure, stages, shown, layers, accuracy_name)
    return cast("NotebookFigure", figure)


def has_moved(report: Mapping[str, Any]) -> bool:
    """Say whether the kept units changed from one ADMM iteration to another, and are known."""
    return any(_moving(report))


def support_at(report: Mapping[str, Any], path: Path) -> None:
    """Draw which units every group kept after every ADMM iteration, where they moved.

    Args:
        report: Needs `layers`, and `admm.iterations` that tell their support.
        path: PNG to write.
    """
    iterations = report["admm"]["iterations"]
    moving = _moving(report)
    shown = moving[:MAX_PANELS]
    lines = -(-len(shown) // COLUMNS)
    with figure_at(path, 1.0 + 2.2 * lines) as figure:
        panels = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
        for axes, (name, kept) in zip(panels, shown, strict=False):
            _support(axes, name, kept, column(iterations, "iteration"))
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        still = len(report["layers"]) - len(moving)
        left_out = f", the {len(shown)} that moved most" if len(moving) > len(shown) else ""
        figure.suptitle(
            f"Kept units over the ADMM iterations: {len(moving)} groups moved{left_out}, "
            f"{still} never did",
            x=0.01,
            ha="left",
            fontsize=13,
            fontweight="bold",
        )


def _height(layers: Sequence[Layer]) -> float:
    return 4.6 + 0.26 * len(layers)


def _draw(
    figure: "Figure", stages: Stages, shown: Sequence[Layer], layers: Sequence[Layer], name: str
) -> None:
    figure.suptitle(_sentence(layers), x=0.01, ha="left", fontsize=13, fontweight="bold")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.6, 1.4 + 0.26 * len(shown)])
    top, bottom = parts
    _accuracies(top.subplots(), stages, name)
    has_macs = any(layer.get("macs") for layer in shown)
    panels = bottom.subplots(1, 1 + has_macs, squeeze=False).ravel()
    unit = layers[0].get("unit", "channels")
    _bars(panels[0], shown, ("channels", "kept"), f"{unit} kept")
    panels[0].set_yticks(
        range(len(shown)), [shortened(layer["name"]) for layer in shown], fontsize=9
    )
    if has_macs:
        _bars(panels[1], shown, ("macs", "kept_macs"), "multiply-adds a sample left")
        panels[1].set_yticks(range(len(shown)), [])
    handles, labels = panels[0].get_legend_handles_labels()
    bottom.legend(handles, labels, loc="outside lower center", ncols=2)


def _accuracies(axes: "Axes", stages: Stages, name: str) -> None:
    places, values = list(range(len(stages))), list(stages.values())
    axes.plot(places, values, color=BLUE, marker="o", markersize=7)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            percent(value),
            (place, value),
            (0, 9),
            textcoords="offset points",
            ha="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
    room = max(0.005, max(values) - min(values))
    axes.set_ylim(min(values) - 0.2 * room, max(values) + 0.4 * room)
    axes.set_xlim(-0.5, len(stages) - 0.5)
    axes.set_xticks(places, [STAGES[stage] for stage in stages])
    axes.yaxis.set_major_formatter(tick_percent)
    axes.set_ylabel(name)
    axes.grid(visible=False, axis="x")


def _bars(axes: "Axes", layers: Sequence[Layer], keys: tuple[str, str], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    before, after = (column(layers, key) for key in keys)
    places = range(len(layers))
    axes.barh(places, before, color=LIGHT, height=0.74, label="before")
    axes.barh(places, after, color=BLUE, height=0.74, label="left")
    for place, (full, left) in enumerate(zip(before, after, strict=True)):
        if not isnan(full):
            text = f" {count(left)} / {count(full)}"
            axes.text(full, place, text, va="center", fontsize=9, color=GREY)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, 1.45 * max(full for full in before if not isnan(full)))
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(count)
    axes.set_title(title, fontsize=11, fontweight="normal")


def _sentence(layers: Sequence[Layer]) -> str:
    unit = layers[0].get("unit", "channels")
    kept, all_units = (int(sum(column(layers, key))) for key in ("kept", "channels"))
    text = f"{kept:,} of {all_units:,} {unit} kept"
    macs, left = (sum(layer.get(key) or 0 for layer in layers) for key in ("macs", "kept_macs"))
    if macs:
        text += f", {left / macs:.0%} of their layers' multiply-adds"
    return text


def _largest(layers: Sequence[Layer]) -> list[Layer]:
    """Keep the groups with most work in their order, and put the others together."""
    if len(layers) <= MAX_GROUPS:
        return list(layers)
    ranked = sorted(range(len(layers)), key=lambda i: -(layers[i].get("macs") or 0))
    largest, others = sorted(ranked[: MAX_GROUPS - 1]), ranked[MAX_GROUPS - 1 :]
    rest: dict[str, Any] = {"name": f"{len(others)} smaller groups"}
    for key in ("channels", "kept", "macs", "kept_macs"):
        rest[key] = sum(layers[i].get(key) or 0 for i in others)
    return [*(layers[i] for i in largest), rest]


def _moving(report: Mapping[str, Any]) -> list[tuple[str, list[list[bool]]]]:
    """List the groups whose kept units changed, those that changed most first."""
    iterations = (report.get("admm") or {}).get("iterations") or []
    told = [row.get("support") or () for row in iterations]
    found = []
    for layer, digits in zip(report.get("layers") or (), zip(*told, strict=False), strict=False):
        if len(set(digits)) > 1:
            kept = [kept_units(each, layer["channels"]) for each in digits]
            found.append((layer["name"], kept))
    return sorted(found, key=lambda pair: -_changes(pair[1]))


def _changes(kept: Sequence[Sequence[bool]]) -> int:
    return sum(a != b for old, new in pairwise(kept) for a, b in zip(old, new, strict=True))


def _support(
    axes: "Axes", name: str, kept: Sequence[Sequence[bool]], steps: Sequence[float]
) -> None:
    """Draw the units from top to bottom, those that stayed longest first."""
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    units = sorted(range(len(kept[0])), key=lambda unit: [not row[unit] for row in reversed(kept)])
    picture = [[float(row[unit]) for row in kept] for unit in units]
    extent = (steps[0] - 0.5, steps[-1] + 0.5, len(units), 0)
    axes.imshow(
        picture,
        cmap=ListedColormap(["#F2F2F2", BLUE]),
        aspect="auto",
        interpolation="nearest",
        extent=extent,
        vmin=0,
        vmax=1,
    )
    axes.set_title(f"{shortened(name)}: {_changes(kept) // 2} swaps", fontsize=10)
    axes.set(xlabel="ADMM iteration", ylabel="units")
    axes.grid(visible=False)
    count_in_whole_numbers(axes)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
