import math
import struct
from contextlib import contextmanager

import pytest

from admm_exp.report.figures import run as figures
from admm_exp.report.figures.style import figure_at

HEIGHT_PIXELS, WIDTH_PIXELS = 990, 1350


def iteration(number, primal=1.0, dual=1.0, eps=1.0):
    return {
        "iteration": number,
        "rho": 0.01,
        "primal_residual": primal,
        "dual_residual": dual,
        "eps_primal": eps,
        "eps_dual": eps,
        "support_change": 0.1 / number,
        "dead_energy": 0.5 / number,
        "val_accuracy": 0.95,
        "projected_val_accuracy": 0.95 - 0.5 / number,
    }


def epochs(phase, count):
    return [
        {
            "phase": phase,
            "epoch": epoch,
            "train_loss": 1.0 / epoch,
            "val_accuracy": 0.9,
            "lr": 0.1,
        }
        for epoch in range(1, count + 1)
    ]


@pytest.fixture
def report():
    models = {"dense": 0.95, "pruned": 0.6, "finetuned": 0.93}
    return {
        "admm": {"iterations": [iteration(number, 4 / number) for number in range(1, 7)]},
        "history": epochs("dense", 3) + epochs("admm", 6) + epochs("finetune", 2),
        "layers": [{"name": f"conv{index}", "channels": 16, "kept": 8} for index in range(9)],
        "models": {
            name: {"val_accuracy": value, "test_accuracy": value} for name, value in models.items()
        },
    }


def size_in_pixels(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


def darkness(path):
    """Return the fraction of pixels that are not white."""
    from matplotlib.image import imread

    return float((imread(path)[..., :3].min(axis=2) < 0.99).mean())


def test_draw_all_writes_three_figures(report, tmp_path):
    written = figures.draw_all(report, tmp_path / "figures")
    assert [path.name for path in written] == ["residuals.png", "pruning.png", "training.png"]
    assert all(darkness(path) > 0.02 for path in written)
    sizes = [size_in_pixels(path) for path in written if path.name != "pruning.png"]
    assert sizes == 2 * [(WIDTH_PIXELS, HEIGHT_PIXELS)]


@pytest.mark.parametrize("admm", [None, {}, {"iterations": []}])
def test_no_admm_draws_no_residuals(tmp_path, admm):
    assert figures.draw_all({"admm": admm}, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_without_admm_the_other_figures_are_drawn(report, tmp_path):
    report["admm"] = None
    written = figures.draw_all(report, tmp_path)
    assert [path.name for path in written] == ["pruning.png", "training.png"]
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_an_empty_report_draws_nothing(tmp_path):
    assert figures.draw_all({}, tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, None])
def test_values_off_the_log_axis_are_gaps(report, tmp_path, value):
    for row in report["admm"]["iterations"]:
        row["dual_residual"] = row["support_change"] = value
    for row in report["history"]:
        row["train_loss"] = row["val_accuracy"] = value
    for draw in (figures.residuals, figures.training):
        draw(report, tmp_path / "figure.png")
        assert size_in_pixels(tmp_path / "figure.png") == (WIDTH_PIXELS, HEIGHT_PIXELS)


def legends_of(monkeypatch, module, draw):
    """Draw with a module's function and read the titles and all legends of the figure."""
    found = []

    @contextmanager
    def kept(path, height_inches):
        with figure_at(path, height_inches) as figure:
            yield figure
            legends = [axes.get_legend() for axes in figure.axes] + figure.legends
            found.extend(text.get_text() for legend in legends if legend for text in legend.texts)
            found.extend(axes.get_title("left") for axes in figure.axes)

    monkeypatch.setattr(module, "figure_at", kept)
    draw()
    return found


def test_a_dual_residual_that_is_always_0_is_no_line_and_no_legend(report, tmp_path, monkeypatch):
    for row in report["admm"]["iterations"]:
        row |= {"dual_residual": 0.0, "primal_residual": 0.5 * row["eps_primal"]}
    drawn = legends_of(
        monkeypatch, figures, lambda: figures.residuals(report, tmp_path / "residuals.png")
    )
    assert "primal residual" in drawn
    assert "dual residual" not in drawn
    title = "Converged: the primal residual below eps since iteration 1 (the dual is 0)"
    assert title in drawn


def test_a_cut_that_costs_more_leaves_a_larger_area(report, tmp_path):
    from matplotlib.image import imread

    areas = []
    for cost in (0.0, 0.3):
        for row in report["admm"]["iterations"]:
            row["projected_val_accuracy"] = 0.95 - cost
        figures.residuals(report, tmp_path / "residuals.png")
        pixels = imread(tmp_path / "residuals.png")[:, : WIDTH_PIXELS // 2, :3]
        light = [int(figures.LIGHT[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        areas.append(int((abs(pixels - light).max(axis=2) < 0.01).sum()))
    assert areas[0] < 100 < 10_000 < areas[1]


def test_tolerances_may_be_missing(report, tmp_path):
    for row in report["admm"]["iterations"]:
        del row["eps_primal"], row["eps_dual"]
    figures.residuals(report, tmp_path / "residuals.png")
    assert size_in_pixels(tmp_path / "residuals.png") == (WIDTH_PIXELS, HEIGHT_PIXELS)


def test_a_cached_dense_phase_needs_no_history(report, tmp_path):
    report["history"] = epochs("admm", 1) + epochs("finetune", 1)
    figures.training(report, tmp_path / "training.png")
    assert size_in_pixels(tmp_path / "training.png") == (WIDTH_PIXELS, HEIGHT_PIXELS)


@pytest.mark.parametrize(
    ("primal", "verdict"),
    [
        ([4.0, 0.5, 3.0, 0.9, 0.5], "Converged: both residuals below eps since iteration 4"),
        ([0.5, 2.5], "Not converged: primal residual is 2.5 x eps after iteration 2"),
        ([0.5, math.nan], "ADMM residuals up to iteration 2"),
    ],
)
def test_the_title_says_whether_admm_converged(primal, verdict):
    rows = [iteration(number, value, dual=0.1) for number, value in enumerate(primal, start=1)]
    assert figures._verdict(rows) == verdict


def test_phases_share_one_epoch_axis(report):
    places = [(name, epochs) for name, epochs, _ in figures._phases(report["history"])]
    assert places == [("dense", [1, 2, 3]), ("admm", [4, 5, 6, 7, 8, 9]), ("finetune", [10, 11])]


def test_the_cut_is_marked_between_the_epochs_before_and_after_it(report):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    figures._mark_cut(report, list(figures._phases(report["history"])), [axes])
    assert [list(line.get_xdata()) for line in axes.lines] == [[9.5, 9.5], [9.5]]


def test_drawing_leaves_matplotlib_as_it_was(report, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.residuals(report, tmp_path / "pruning.png")
    assert dict(matplotlib.rcParams) == before


def test_sensitivity_is_drawn_for_every_group(report, tmp_path):
    curves = [
        {"name": f"conv{i}", "sparsity": [0.0, 0.5, 0.9], "accuracy": [0.9, 0.9 - i / 20, 0.2]}
        for i in range(9)
    ]
    layers = [row | {"sparsity": 0.5} for row in report["layers"]]
    report |= {"layers": layers, "budget": {"sensitivity": curves}}
    written = figures.draw_all(report, tmp_path)
    assert tmp_path / "sensitivity.png" in written
    assert darkness(tmp_path / "sensitivity.png") > 0.01
