"""The house style of every figure: size, colours, axes and labels."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from admm_exp.statistics import Paired, Spread

DPI = 150
WIDTH_INCHES = 9.0
# Okabe and Ito 2008: eight colours that colour-blind people tell apart.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#AA4499"
LIGHT, GREY = "#BBD9EC", "#555555"
# Any: matplotlib types the keys of a style as one long Literal, from 3.11 on.
STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#D8D8D8",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}
MAX_NAME_LENGTH = 36


@contextmanager
def figure_at(path: Path, height_inches: float) -> Iterator["Figure"]:
    """Yield an empty figure in the house style and save it; pyplot and its state stay out.

    Args:
        path: PNG to write; its folder is created if missing.
        height_inches: Height; the width is the same for all figures.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def column(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """Read one number a row; what is missing becomes NaN."""
    values = (row.get(name) for row in rows)
    return [math.nan if value is None else float(value) for value in values]


def positive(values: Iterable[float]) -> list[float]:
    """Replace what a log axis cannot show by gaps."""
    return [value if 0 < value < math.inf else math.nan for value in values]


def use_log_axis(axes: "Axes") -> None:
    """Make the vertical axis logarithmic, if anything is drawn: matplotlib cannot place it else."""
    if math.isfinite(axes.dataLim.minposy):
        axes.set_yscale("log")


def count_in_whole_numbers(axes: "Axes") -> None:
    """Put the horizontal ticks on whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))


def shortened(name: str) -> str:
    """Cut the middle out of a long name."""
    half = MAX_NAME_LENGTH // 2
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: half - 1]}…{name[-half:]}"


def percent(fraction: float, position: float | None = None) -> str:
    """Write a fraction in percent, four digits at most; also the formatter of an axis."""
    return f"{100 * fraction:.4g} %"


def mean_std(found: "Spread") -> str:
    """Write a mean of fractions in percent, and the standard deviation if there is one."""
    std = f" ± {100 * found.std:.2f}" if found.n > 1 else ""
    return f"{100 * found.mean:.2f}{std} %"


def points(found: "Paired") -> str:
    """Write a paired difference of fractions in percentage points, with its standard error."""
    error = f" ± {100 * found.standard_error:.2f}" if found.n > 1 else ""
    return f"{100 * found.mean:+.2f}{error} (n {found.n})"


def count(value: float, position: float | None = None) -> str:
    """Write a large number in three digits with k, M, G, T or P; also the formatter of an axis."""
    for scale, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"
