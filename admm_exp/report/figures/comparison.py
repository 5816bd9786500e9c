"""All figures that compare runs."""

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path

from admm_exp.report.comparison import Row, Setting, settings_of
from admm_exp.report.figures.heatmaps import heatmaps
from admm_exp.report.figures.panels import kept_channels, residuals
from admm_exp.report.figures.pareto import pareto


def draw_comparison(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw every figure that the runs have data for.

    Args:
        rows: One mapping a finished run, as `admm_exp.report.comparison` describes them.
        folder: Where pareto.png, heatmaps.png, residuals.png and channels.png go; created if
            missing.

    Returns:
        The files written, none if no run has an accuracy.
    """
    settings = settings_of(rows)
    drawings: dict[str, tuple[bool, Callable[[Path], None]]] = {
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
            draw(folder / name)
            written.append(folder / name)
    return written


def _some_have(settings: Sequence[Setting], name: str) -> bool:
    return any(row.get(name) for setting in settings for row in setting.rows)
