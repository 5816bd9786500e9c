"""Small multiples: one panel a setting, all on the same axes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from admm_exp.report.comparison import (
    Row,
    Setting,
    best_per_amount,
    group_settings,
    judged_by,
)
from admm_exp.report.figures.style import (
    BLUE,
    LIGHT,
    VERMILION,
    column,
    count_in_whole_numbers,
    figure_at,
    has_values,
    positive,
    shortened,
    use_log_axis,
)
from admm_exp.report.wording import tick_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
MAX_PANELS = 24
MAX_LINES = 10
MAX_LAYERS = 60


def rows_in_detail(rows: Sequence[Row]) -> list[Row]:
    """Choose the runs whose curves and layers the figures show.

    Args:
        rows: One mapping a finished run, which need not have `iterations` and `layers` yet.
    """
    settings = group_settings(rows)
    curved = _most_accurate([s for s in settings if _curved(s)])
    shown = [row for setting in curved for row in setting.rows[:MAX_LINES]]
    shown += [setting.rows[0] for setting in _best_spread_out(settings)]
    return list({id(row): row for row in shown}.values())


def residuals(rows: Sequence[Row], path: Path) -> None:
    """Draw primal and dual residuals of every setting, one line a seed, on common log axes.

    Args:
        rows: One mapping a finished run, with `iterations`; the 24 most accurate settings are
            shown, 10 seeds of each.
        path: PNG to write.
    """
    settings = group_settings(rows)
    known = [s for s in settings if any(row.get("iterations") for row in s.rows)]
    shown = _most_accurate(known)
    total = max(len(known), sum(_curved(s) for s in settings))
    lines = -(-len(shown) // COLUMNS)
    with figure_at(path, 1.1 + 2.1 * lines) as figure:
        grid = figure.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False)
        panels = grid.ravel()
        for axes, setting in zip(panels, shown, strict=False):
            _curves(axes, setting)
        use_log_axis(panels[0])
        count_in_whole_numbers(panels[0])
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        for index in range(len(shown)):
            is_last = index + COLUMNS >= len(shown)
            panels[index].tick_params(labelbottom=is_last)
            panels[index].set_xlabel("ADMM iteration" if is_last else "")
        for line in grid:
            line[0].set_ylabel("residual (log)")
        left_out = f": the {len(shown)} most accurate of {total} settings"
        title = "ADMM residuals" + (left_out if total > len(shown) else "")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        drawn = {str(line.get_label()): line for axes in panels for line in axes.get_lines()}
        names = sorted(drawn, reverse=True)  # primal, dual
        figure.legend([drawn[name] for name in names], names, loc="outside upper right", ncols=2)


def kept_channels(rows: Sequence[Row], path: Path) -> None:
    """Draw the share of channels that each group keeps, in the best setting of every sparsity.

    Args:
        rows: One mapping a finished run, with `layers`; the first run of a setting is shown.
        path: PNG to write.
    """
    settings = group_settings(rows)
    known = [s for s in settings if any(row.get("layers") for row in s.rows)]
    has_layers = {id(s) for s in known}
    best = [s for s in _best_spread_out(settings) if id(s) in has_layers] or _best_spread_out(known)
    layers = [next(row["layers"] for row in s.rows if row.get("layers")) for s in best]
    columns = min(COLUMNS, len(best))
    lines = -(-len(best) // columns)
    longest = min(MAX_LAYERS, max(len(each) for each in layers))
    with figure_at(path, lines * (1.0 + 0.2 * longest) + 0.5) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, setting, each in zip(panels, best, layers, strict=False):
            _bars(axes, each[:MAX_LAYERS])
            axes.set_title(_name(setting), fontsize=10)
            axes.set_xlabel("kept")
        for axes in panels[len(best) :]:
            axes.set_visible(False)
        units = {row.get("unit", "channels") for each in layers for row in each}
        title = f"{' and '.join(sorted(units)).capitalize()} kept, best setting of each sparsity"
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")


def _curves(axes: "Axes", setting: Setting) -> None:
    curved = [row["iterations"] for row in setting.rows if row.get("iterations")]
    for iterations in curved[:MAX_LINES]:
        steps = column(iterations, "iteration")
        for name, color in (("primal", BLUE), ("dual", VERMILION)):
            values = positive(column(iterations, f"{name}_residual"))
            if has_values(values):
                axes.plot(steps, values, color=color, linewidth=1.4, label=f"{name} residual")
    series = f"\n{shortened(setting.series)}" if setting.series else ""
    left_out = f"\n{MAX_LINES} of {len(setting.rows)} runs" if len(setting.rows) > MAX_LINES else ""
    axes.set_title(_name(setting) + left_out + series, fontsize=9.5)


def _bars(axes: "Axes", layers: Sequence[Row]) -> None:
    places = range(len(layers))
    shares = [row["kept"] / row["channels"] for row in layers]
    axes.barh(places, [1.0] * len(layers), color=LIGHT, height=0.74)
    axes.barh(places, shares, color=BLUE, height=0.74)
    for place, row in enumerate(layers):
        text = f"{row['kept']}/{row['channels']}"
        axes.text(0.99, place, text, va="center", ha="right", fontsize=7)
    axes.set_yticks(places, [shortened(row["name"]) for row in layers], fontsize=7)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(tick_percent)
    axes.grid(visible=False, axis="y")


def _most_accurate(settings: Sequence[Setting]) -> list[Setting]:
    judge = judged_by(settings)
    kept = {id(s) for s in sorted(settings, key=lambda s: -s.mean(judge))[:MAX_PANELS]}
    return [setting for setting in settings if id(setting) in kept]


def _curved(setting: Setting) -> bool:
    """Say whether a setting has residuals, which only ADMM leaves."""
    return any(row.get("primal_residual") is not None for row in setting.rows)


def _best_spread_out(settings: Sequence[Setting]) -> list[Setting]:
    return _spread_out(best_per_amount(settings), 2 * COLUMNS)


def _spread_out(settings: Sequence[Setting], count: int) -> list[Setting]:
    """Choose at most `count` settings, evenly, the first and the last among them."""
    if len(settings) <= count:
        return list(settings)
    last = len(settings) - 1
    return [settings[round(index * last / (count - 1))] for index in range(count)]


def _name(setting: Setting) -> str:
    return f"{setting.amount}, rho {setting.rho:.2g}"
