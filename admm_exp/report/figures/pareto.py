"""Accuracy against cost: what each setting reaches, and the front that is worth having."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from admm_exp.report.comparison import (
    Row,
    Setting,
    group_settings,
    judged_by,
    pareto_front,
)
from admm_exp.report.dense import Dense, dense_networks
from admm_exp.report.figures.spots import Spot, spots
from admm_exp.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILION,
    figure_at,
)
from admm_exp.report.wording import count, mean_std, tick_percent
from admm_exp.statistics import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES_STYLES = [
    (BLUE, "o"),
    (VERMILION, "s"),
    (GREEN, "^"),
    (PURPLE, "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
]
LOG_MACS_FROM = 8.0
MAX_LABELS = 6
POINT_GAP, MAX_SPREAD = 0.02, 0.1  # as fractions of what the axis spans
OUTLINE: Any = {"edgecolors": "white", "linewidths": 0.6}
Key = tuple[str, str, float]


def pareto(rows: Sequence[Row], path: Path) -> list[Spot]:
    """Draw test accuracy against MACs: means over seeds, the front and the dense network.

    Args:
        rows: One mapping a finished run.
        path: PNG to write.

    Returns:
        Where each setting stands.
    """
    from matplotlib.ticker import LogLocator

    settings, networks = group_settings(rows), dense_networks(rows)
    with figure_at(path, 5.6) as figure:
        axes = figure.subplots()
        known = [s.mean("macs") for s in settings] + [d.macs for d in networks]
        macs = [value for value in known if math.isfinite(value)] or [1.0]
        is_log = min(macs) > 0 and max(macs) > LOG_MACS_FROM * min(macs)
        places = _side_by_side(settings, macs, is_log)
        _settings_by_color(axes, settings, places)
        _front(axes, settings, places)
        for dense in networks:
            _dense(axes, dense)
        if is_log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_formatter("")
        axes.xaxis.set_major_formatter(count)
        axes.yaxis.set_major_formatter(tick_percent)
        axes.margins(0.1, 0.1)
        seeds = max(s.n for s in settings)
        over = f", mean ± std of up to {seeds} seeds" if seeds > 1 else ""
        axes.set(xlabel="MACs per sample", ylabel="test accuracy")
        axes.set_title(f"Accuracy against cost: {_runs(settings)}{over}")
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=3, fontsize=9)
    shown = [s for s in settings if s.key in places]
    return spots(axes, shown, [(places[s.key], s.mean("accuracy")) for s in shown])


def _side_by_side(
    settings: Sequence[Setting], macs: Sequence[float], is_log: bool
) -> dict[Key, float]:
    """Place settings along the MACs so that those of the same MACs do not hide each other.

    Args:
        settings: The settings.
        macs: All MACs that the axis shows.
        is_log: Whether the axis is logarithmic.

    Returns:
        MACs by setting, for those that have any; equal ones are spread around their value, by rho.
    """
    low, high = min(macs), max(macs)
    groups: dict[float, list[Setting]] = {}
    for setting in sorted(settings, key=lambda s: (s.rho, s.series)):
        if math.isfinite(value := setting.mean("macs")):
            groups.setdefault(value, []).append(setting)
    width = math.log(high / low) if is_log else high - low
    places = {}
    for value, group in groups.items():
        gap = width * min(POINT_GAP, MAX_SPREAD / len(group))
        for index, setting in enumerate(group):
            shift = gap * (index - (len(group) - 1) / 2)
            places[setting.key] = value * math.exp(shift) if is_log else value + shift
    return places


def _settings_by_color(
    axes: "Axes", settings: Sequence[Setting], places: Mapping[Key, float]
) -> None:
    """Tell series apart by colour and marker; a single one is coloured by rho."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, to_rgba

    series = list(dict.fromkeys(setting.series for setting in settings))
    rhos = [setting.rho for setting in settings]
    by_rho = len(series) == 1 and len(set(rhos)) > 1
    many = len(series) > len(SERIES_STYLES)
    norm, palette = LogNorm(min(rhos), max(rhos)), matplotlib.colormaps["viridis"]
    for index, name in enumerate(series[:1] if many else series):
        color, marker = SERIES_STYLES[index]
        chosen = [s for s in settings if s.key in places and (many or s.series == name)]
        colors = [palette(norm(s.rho)) if by_rho else to_rgba(color) for s in chosen]
        x, y = [places[s.key] for s in chosen], [s.mean("accuracy") for s in chosen]
        stds = [_std(s.spread("accuracy")) for s in chosen]
        low, high = ([v + sign * d for v, d in zip(y, stds, strict=True)] for sign in (-1, 1))
        axes.vlines(x, low, high, colors=colors, linewidth=1.2, zorder=2)
        label = "settings" if many or not name else name
        axes.scatter(x, y, c=colors, marker=marker, s=52, label=label, zorder=3, **OUTLINE)
    if by_rho:
        scale = ScalarMappable(norm, palette)
        axes.figure.colorbar(scale, ax=axes, label="rho", pad=0.01)


def _front(axes: "Axes", settings: Sequence[Setting], places: Mapping[Key, float]) -> None:
    front = pareto_front(settings)
    chosen_on = "validation" if judged_by(settings) == "val_accuracy" else "test"
    x, y = [places[s.key] for s in front], [s.mean("accuracy") for s in front]
    if len(front) > 1:
        label = f"Pareto front, chosen on {chosen_on}"
        axes.plot(x, y, "-", color=GREY, linewidth=1.2, label=label, zorder=1)
    stride = max(1, -(-len(front) // MAX_LABELS))
    for setting in front[::stride]:
        place = (places[setting.key], setting.mean("accuracy"))
        text = f"{setting.amount}\nrho {setting.rho:.2g}"
        axes.annotate(
            text,
            place,
            (-6, 4),  # where nothing stands: no setting is both smaller and better
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
        )


def _dense(axes: "Axes", dense: Dense) -> None:
    accuracy = dense.accuracy
    axes.axhline(accuracy.mean, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    axes.errorbar(
        [dense.macs],
        [accuracy.mean],
        [_std(accuracy)],
        fmt="*",
        color="black",
        markersize=14,
        capsize=2.5,
        label=f"{dense.label}: {mean_std(accuracy)}",
        zorder=4,
    )


def _std(found: Spread | None) -> float:
    return 0.0 if found is None or math.isnan(found.std) else found.std


def _runs(settings: Sequence[Setting]) -> str:
    total = sum(len(setting.rows) for setting in settings)
    return "1 run" if total == 1 else f"{total} runs"
