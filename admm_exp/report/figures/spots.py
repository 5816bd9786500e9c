"""Where on a figure which setting stands, so that a page can say it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from admm_exp.report.comparison import Setting
from admm_exp.report.wording import count, mean_std

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = 3
POINT_INCHES = 0.16


@dataclass(frozen=True)
class Spot:
    """A place on a figure.

    Args:
        left: Of its middle, from the left, as a fraction of the figure's width.
        top: Of its middle, from the top, as a fraction of the height.
        width: As a fraction of the width.
        height: As a fraction of the height.
        about: What stands there.
        run_id: A run that stands there.
    """

    left: float
    top: float
    width: float
    height: float
    about: str
    run_id: str


def spots(
    axes: "Axes",
    settings: Sequence[Setting],
    places: Sequence[tuple[float, float]],
    size: tuple[float, float] | None = None,
) -> list[Spot]:
    """Locate settings on a figure that was drawn.

    Args:
        axes: Where they stand.
        settings: What stands there.
        places: Data coordinates of each.
        size: Width and height of each in data coordinates; that of a point if None.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    wide, high = figure.bbox.width, figure.bbox.height
    dots = POINT_INCHES * figure.dpi
    extent = (dots, dots)
    if size is not None:
        (x0, y0), (x1, y1) = axes.transData.transform([(0.0, 0.0), size])
        extent = (abs(x1 - x0), abs(y1 - y0))
    found = []
    for setting, (x, y) in zip(settings, axes.transData.transform(list(places)), strict=True):
        found.append(
            Spot(
                left=float(x / wide),
                top=float(1.0 - y / high),
                width=float(extent[0] / wide),
                height=float(extent[1] / high),
                about=about(setting),
                run_id=str(setting.rows[0].get("run_id")),
            )
        )
    return found


def about(setting: Setting) -> str:
    """Say in three lines which setting this is, what it reaches and which runs it sums up."""
    test, val = setting.spread("accuracy"), setting.spread("val_accuracy")
    series = f", {setting.series}" if setting.series else ""
    cost = f", {count(setting.mean('macs'))} MACs" if setting.spread("macs") else ""
    names = [str(row.get("run_name")) for row in setting.rows]
    others = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return (
        f"{setting.amount}, rho {setting.rho:.3g}{series}\n"
        f"test {mean_std(test)}, validation {mean_std(val)}, n {setting.n}{cost}\n"
        f"{'; '.join(names[:NAMES])}{others}"
    )
