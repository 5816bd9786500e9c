"""All figures that compare runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from admm_exp.report.comparison import Row, Setting, group_settings
from admm_exp.report.figures.heatmaps import heatmaps
from admm_exp.report.figures.panels import kept_channels, residuals
from admm_exp.report.figures.pareto import pareto
from admm_exp.report.figures.spots import Spot


@dataclass(frozen=True)
class Drawing:
    """A figure that was written, and where on it which setting stands."""

    path: Path
    spots: tuple[Spot, ...] = ()


def draw_comparison(rows: Sequence[Row], folder: Path) -> list[Drawing]:
    """Draw every figure that the runs have data for.

    Args:
        rows: One mapping a finished run, as `admm_exp.report.comparison` describes them.
        folder: Where pareto.png, heatmaps.png, residuals.png and channels.png go; created if
            missing.

    Returns:
        The figures written, none if no run has an accuracy.
    """
    settings = group_settings(rows)
    drawings: dict[str, tuple[bool, Callable[[Path], Sequence[Spot] | None]]] = {
        "pareto.png": (bool(settings), lambda path: pareto(rows, path)),
        "heatmaps.png": (
            any(isfinite(s.sparsity) for s in settings),
            lambda path: heatmaps(rows, path),
        ),
        "residuals.png": (_some_have(settings, "iterations"), lambda path: residuals(rows, path)),
        "channels.png": (_some_have(settings, "layers"), lambda path: kept_channels(rows, path)),
    }
    written = []
    for name, (has_data, draw) in drawings.items():
        if has_data:
            spots = draw(folder / name) or ()
            written.append(Drawing(folder / name, tuple(spots)))
    return written


def _some_have(settings: Sequence[Setting], name: str) -> bool:
    return any(row.get(name) for setting in settings for row in setting.rows)
