"""What rho and sparsity do together."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from admm_exp.report.comparison import Row, Setting, group_settings
from admm_exp.report.figures.spots import Spot, spots
from admm_exp.report.figures.style import figure_at
from admm_exp.report.wording import tick_percent
from admm_exp.statistics import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

MAX_CELLS, MAX_SERIES = 12, 6
QUANTITIES = {
    "accuracy": "test accuracy (%)",
    "accuracy_after_cut": "right after the cut (%)",
    "primal_residual": "final primal residual",
}


def heatmaps(rows: Sequence[Row], path: Path) -> list[Spot]:
    """Draw accuracy, accuracy after the cut and the final primal residual over rho x sparsity.

    The residual is left out where it is 0 in every setting, as after masked iterations.

    Args:
        rows: One mapping a finished run; those whose cut a budget or a file decided are left out.
        path: PNG to write; more than 12 values on an axis, or 6 series, become points
            instead of cells.

    Returns:
        Where each setting stands.
    """
    settings = [s for s in group_settings(rows) if math.isfinite(s.sparsity)]
    series = list(dict.fromkeys(setting.series for setting in settings))
    rhos, sparsities = _axes_of(settings)
    is_grid = max(len(rhos), len(sparsities)) <= MAX_CELLS and len(series) <= MAX_SERIES
    if not is_grid:
        series = [""]
    quantities = [q for q in QUANTITIES if q != "primal_residual" or _is_told(q, settings)]
    columns = len(quantities) if is_grid and len(rhos) <= 4 else 1
    lines = len(series) * len(quantities) // columns
    has_seeds = any(setting.n > 1 for setting in settings)
    height = (0.7 if has_seeds else 0.5) * len(sparsities) + 1.3 if is_grid else 3.4
    shown: list[tuple[Axes, list[Setting], list[tuple[float, float]]]] = []
    with figure_at(path, max(2.6, height) * lines) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for index, (name, quantity) in enumerate(
            (name, quantity) for name in series for quantity in quantities
        ):
            chosen = [s for s in settings if s.series == name or not is_grid]
            if not any(s.spread(quantity) for s in chosen):  # only ADMM has residuals
                panels[index].set_axis_off()
                continue
            title = QUANTITIES[quantity] + (f"\n{name}" if name else "")
            panels[index].set_title(title, fontsize=11)
            norm = _norm(quantity, settings)
            if is_grid:
                _cells(panels[index], chosen, quantity, norm, (rhos, sparsities))
                places = [
                    (float(rhos.index(s.rho)), float(sparsities.index(s.sparsity))) for s in chosen
                ]
            else:
                _points(panels[index], chosen, quantity, norm)
                places = [(s.rho, s.sparsity) for s in chosen]
            shown.append((panels[index], chosen, places))
    return [
        spot
        for axes, chosen, places in shown
        for spot in spots(axes, chosen, places, (1.0, 1.0) if is_grid else None)
    ]


def _cells(
    axes: "Axes",
    settings: Sequence[Setting],
    quantity: str,
    norm: "Normalize",
    ticks: tuple[list[float], list[float]],
) -> None:
    """Fill a grid of cells and write the numbers into them."""
    import numpy as np

    rhos, sparsities = ticks
    values = np.full((len(sparsities), len(rhos)), math.nan)
    for setting in settings:
        place = sparsities.index(setting.sparsity), rhos.index(setting.rho)
        values[place] = setting.mean(quantity)
    image = axes.imshow(values, cmap=_palette(quantity), norm=norm, aspect="auto")
    for setting in settings:
        found = setting.spread(quantity)
        if found is None:
            continue
        place = (rhos.index(setting.rho), sparsities.index(setting.sparsity))
        red, green, blue, _ = image.to_rgba(np.array([found.mean]))[0]
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = _cell(found, quantity)
        color = "white" if is_dark else "black"
        axes.text(*place, text, ha="center", va="center", fontsize=8.5, color=color)
    axes.set_xticks(range(len(rhos)), [f"{rho:.3g}" for rho in rhos])
    axes.set_yticks(range(len(sparsities)), [f"{sparsity:g}" for sparsity in sparsities])
    axes.set(xlabel="rho", ylabel="sparsity")
    axes.grid(visible=False)


def _points(axes: "Axes", settings: Sequence[Setting], quantity: str, norm: "Normalize") -> None:
    """Colour a point a setting, where there are too many values for cells."""
    known = [s for s in settings if s.spread(quantity)]
    values = [s.mean(quantity) for s in known]
    points = axes.scatter(
        [s.rho for s in known],
        [s.sparsity for s in known],
        c=values,
        cmap=_palette(quantity),
        norm=norm,
        s=52,
    )
    if known:
        axes.set_xscale("log")
        form = tick_percent if quantity.startswith("accuracy") else None
        axes.figure.colorbar(points, ax=axes, format=form, pad=0.01)
    axes.set(xlabel="rho", ylabel="sparsity")


def _is_told(quantity: str, settings: Sequence[Setting]) -> bool:
    """Tell whether a quantity is known, and not 0, in any setting."""
    return any(math.isfinite(value := s.mean(quantity)) and value != 0.0 for s in settings)


def _norm(quantity: str, settings: Sequence[Setting]) -> "Normalize":
    """Scale the colours, the same for all panels of a quantity."""
    from matplotlib.colors import LogNorm, Normalize

    known = [value for s in settings if math.isfinite(value := s.mean(quantity))]
    if quantity == "primal_residual" and known and min(known) > 0:
        return LogNorm(min(known), max(known))
    return Normalize(min(known, default=0.0), max(known, default=1.0))


def _palette(quantity: str) -> str:
    return "YlGnBu" if quantity.startswith("accuracy") else "OrRd"


def _axes_of(settings: Sequence[Setting]) -> tuple[list[float], list[float]]:
    return sorted({s.rho for s in settings}), sorted({s.sparsity for s in settings})


def _cell(found: Spread, quantity: str) -> str:
    if not quantity.startswith("accuracy"):
        return (f"{found.mean:.2g}" if found.mean < 100 else f"{found.mean:,.0f}") + (
            f"\nn = {found.n}" if found.n > 1 else ""
        )
    text = f"{100 * found.mean:.2f}"
    return text if found.n == 1 else f"{text}\n± {100 * found.std:.2f}\nn = {found.n}"
