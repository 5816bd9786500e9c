import math
from contextlib import contextmanager

import pytest
from support.runs import details, grid, row

from admm_exp.report.comparison import group_settings
from admm_exp.report.figures import heatmaps, panels, pareto
from admm_exp.report.figures.comparison import draw_comparison
from admm_exp.report.figures.style import figure_at


def names(drawings):
    return [drawing.path.name for drawing in drawings]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return draw_comparison(grid(seeds=2, **details()), folder / "new")


def test_a_sweep_gives_four_figures(drawn):
    assert names(drawn) == ["pareto.png", "heatmaps.png", "residuals.png", "channels.png"]
    assert all(drawing.path.stat().st_size > 20_000 for drawing in drawn)


def test_without_curves_and_layers_two_are_left(tmp_path):
    assert names(draw_comparison(grid(), tmp_path)) == ["pareto.png", "heatmaps.png"]


@pytest.mark.parametrize("rows", [[], [row(accuracy=None)]])
def test_nothing_finished_draws_nothing(tmp_path, rows):
    assert draw_comparison(rows, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "rows",
    [
        [row(primal_residual=0.0)],
        [row(primal_residual=None, accuracy_after_cut=math.nan, val_accuracy=None)],
        [row(dense_macs=None), row(rho=1.0, dense_accuracy=None)],
        [row(rho, sparsity) for rho in range(1, 5) for sparsity in (0.1 * k for k in range(1, 14))],
        [row(method=str(index)) for index in range(8)],
    ],
    ids=["zero", "unknown", "no-dense", "many", "many-series"],
)
def test_any_rows_can_be_drawn(tmp_path, rows):
    assert names(draw_comparison(rows, tmp_path))[:2] == ["pareto.png", "heatmaps.png"]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_cells_show_mean_std_and_n(tmp_path):
    settings = group_settings([row(seed=seed, accuracy=a) for seed, a in enumerate((0.9, 0.92))])
    with figure_at(tmp_path / "cells.png", 3) as figure:
        axes = figure.subplots()
        norm = heatmaps._norm("accuracy", settings)
        heatmaps._cells(axes, settings, "accuracy", norm, ([0.01], [0.5]))
        assert texts(axes) == ["91.00\n± 1.41\nn = 2"]


def test_every_cell_stands_at_its_rho_and_sparsity(tmp_path):
    settings = group_settings(
        [row(rho=1.0, sparsity=0.3), row(rho=2.0, sparsity=0.7, accuracy=0.25)]
    )
    with figure_at(tmp_path / "cells.png", 3) as figure:
        axes = figure.subplots()
        norm = heatmaps._norm("accuracy", settings)
        heatmaps._cells(axes, settings, "accuracy", norm, ([1.0, 2.0], [0.3, 0.7]))
        assert [t.get_position() for t in axes.texts if t.get_text() == "25.00"] == [(1, 1)]
        assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "2"]


def test_the_front_joins_test_accuracies_of_what_validation_chose(tmp_path):
    rows = [
        row(sparsity=0.7, macs=1.0, accuracy=0.8),
        row(sparsity=0.5, macs=2.0, accuracy=0.95, val_accuracy=0.1),
        row(sparsity=0.3, macs=3.0, accuracy=0.9, val_accuracy=0.99),
    ]
    with figure_at(tmp_path / "front.png", 3) as figure:
        axes = figure.subplots()
        settings = group_settings(rows)
        pareto._front(axes, settings, {s.key: s.mean("macs") for s in settings})
        (line,) = axes.lines
        assert line.get_xydata().tolist() == [[1.0, 0.8], [3.0, 0.9]]
        assert texts(axes) == ["sparsity 0.7\nrho 0.01", "sparsity 0.3\nrho 0.01"]


def test_residual_panels_are_limited_to_the_most_accurate():
    settings = group_settings([row(rho=float(k), val_accuracy=k / 100) for k in range(1, 31)])
    shown = panels._most_accurate(settings)
    assert [s.rho for s in shown] == [float(k) for k in range(7, 31)]


@pytest.mark.parametrize(
    ("duals", "names"),
    [((0.0, 0.0), ["primal residual"]), ((0.0, 0.5), ["primal residual", "dual residual"])],
    ids=["in no panel", "in the second panel"],
)
def test_the_legend_names_the_residuals_that_some_panel_draws(tmp_path, monkeypatch, duals, names):
    found = []

    @contextmanager
    def kept(path, height_inches):
        with figure_at(path, height_inches) as figure:
            yield figure
            found.extend(text.get_text() for text in figure.legends[0].texts)

    monkeypatch.setattr(panels, "figure_at", kept)
    rows = [
        row(
            rho=0.1 * (k + 1),
            iterations=[{"iteration": 1, "primal_residual": 1.0, "dual_residual": dual}],
        )
        for k, dual in enumerate(duals)
    ]
    panels.residuals(rows, tmp_path / "residuals.png")
    assert found == names


def test_channels_show_both_ends_of_the_sparsities():
    settings = group_settings([row(sparsity=k / 100) for k in range(1, 12)])
    assert [s.sparsity for s in panels._spread_out(settings, 3)] == [0.01, 0.06, 0.11]


@pytest.fixture
def map_titles(monkeypatch):
    """Collect the titles of the maps that are drawn."""
    titles = []

    @contextmanager
    def kept(path, height_inches):
        with figure_at(path, height_inches) as figure:
            yield figure
            titles.extend(axes.get_title("left") for axes in figure.axes if axes.axison)

    monkeypatch.setattr(heatmaps, "figure_at", kept)
    return titles


def test_methods_without_residuals_get_no_empty_panel(tmp_path, map_titles):
    rows = [row(method="admm"), row(method="oneshot", primal_residual=None)]
    heatmaps.heatmaps(rows, tmp_path / "cells.png")
    assert [title.splitlines()[-1] for title in map_titles] == ["method=admm"] * 3 + [
        "method=oneshot"
    ] * 2


def test_a_residual_that_is_0_everywhere_has_no_panel(tmp_path, map_titles):
    heatmaps.heatmaps([row(primal_residual=0.0)], tmp_path / "cells.png")
    assert map_titles == ["test accuracy (%)", "right after the cut (%)"]
