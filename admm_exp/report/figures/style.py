"""The house style of every figure: size, colours, axes and labels."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from admm_exp.results import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    """Yield an empty figure in the house style and save it.

    Args:
        path: PNG to write; its folder is created if missing.
        height_inches: Height; the width is the same for all figures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with in_style(), new_figure(height_inches) as figure:
        yield figure
    picture = BytesIO()
    with in_style():
        FigureCanvasAgg(figure).print_png(picture)  # savefig would draw it twice
    write_atomically(path, picture.getvalue())


def in_style() -> AbstractContextManager[None]:
    """Draw in the house style inside the block."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


@contextmanager
def new_figure(height_inches: float, kind: type["Figure"] | None = None) -> Iterator["Figure"]:
    """Yield an empty figure to draw on; pyplot and its state stay out.

    Args:
        height_inches: Height; the width is the same for all figures.
        kind: Class of the figure; matplotlib's own if None.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    size = (WIDTH_INCHES, height_inches)
    figure = (kind or Figure)(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    for text in figure.findobj(Text):
        if "$" in text.get_text() and "mathdefault" not in text.get_text():
            text.set_parse_math(False)  # it is a name's own; ticks get theirs when drawn


def column(rows: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """Read one number a row; what is missing becomes NaN."""
    values = (row.get(name) for row in rows)
    return [math.nan if value is None else float(value) for value in values]


def positive(values: Iterable[float]) -> list[float]:
    """Replace what a log axis cannot show by gaps."""
    return [value if 0 < value < math.inf else math.nan for value in values]


def has_values(values: Iterable[float]) -> bool:
    """Tell whether a line has a point, so that no legend names one that nobody sees."""
    return any(not math.isnan(value) for value in values)


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
