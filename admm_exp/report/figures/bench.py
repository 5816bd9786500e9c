"""The figure of a benchmark: how long each variant takes beside the first one and the ideal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from admm_exp.report.figures.style import BLUE, GREY, LIGHT, VERMILION, figure_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES_A_BAR, FRAME_INCHES = 0.24, 1.3


def draw_bench(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the time of every variant as a multiple of its row's first variant.

    Args:
        rows: As `Measurement.as_dict` makes them.
        path: PNG to write.
    """
    n_lines = sum(len(row["variants"]) + 1 for row in rows)
    with figure_at(path, FRAME_INCHES + INCHES_A_BAR * n_lines) as figure:
        axes = figure.subplots()
        line, ticks, labels = 0, [], []
        for row in rows:
            axes.text(
                0.0,
                line,
                f" {row['name']}: {row['title']}",
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
                fontweight="bold",
                color="black" if all(t["is_met"] for t in row["targets"]) else VERMILION,
            )
            first = next(iter(row["variants"].values()))["median_seconds"]
            places = list(range(line + 1, line + 1 + len(row["variants"])))
            _bars(axes, row, places, first)
            ticks += places
            labels += list(row["variants"])
            line += len(places) + 1
        axes.set_yticks(ticks, labels, fontsize=8)
        axes.set_ylim(line - 0.3, -0.7)
        axes.grid(False, axis="y")
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.axvline(1.0, color=GREY, linewidth=0.8, zorder=0)
        axes.set_xlabel(
            "time over that of the row's first variant; red line: bytes and operations\n"
            "at the rates measured; red title: a target is missed"
        )
        axes.set_title("Benchmark")


def _bars(
    axes: "Axes", row: Mapping[str, Any], places: Sequence[int], first_seconds: float
) -> None:
    variants = list(row["variants"].values())
    times = [variant["median_seconds"] / first_seconds for variant in variants]
    colors = [LIGHT, *[BLUE] * (len(times) - 1)]
    axes.hlines(places, [1.0] * len(times), times, colors=colors, linewidth=5)
    axes.scatter(times, places, c=colors, s=28, zorder=3)
    spreads = [variant["iqr_seconds"] / first_seconds / 2 for variant in variants]
    low = [max(t - s, 0.1 * t) for t, s in zip(times, spreads, strict=True)]
    high = [t + s for t, s in zip(times, spreads, strict=True)]
    axes.hlines(places, low, high, colors="black", linewidth=1.0, zorder=4)
    if row["limit_seconds"] is not None:
        limit = row["limit_seconds"] / first_seconds
        axes.vlines(limit, places[0] - 0.4, places[-1] + 0.4, colors=VERMILION, linewidth=1.5)
