"""The prepared view, in a real browser on a real server on a real sweep."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SHORT, clean_environment, run_command
from support.browser import chromium, needs_chromium

# A fresh browser would open MLflow's assistant over a third of the page.
NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
PATIENCE_MS = 120_000
RUNS = {f"rho={rho},sparsity={sparsity}" for rho in (0.01, 0.1) for sparsity in (0.3, 0.7)}
CHARTS = """plots => plots.map(plot => [
    plot._fullData.map(trace => trace.type), plot._fullLayout.yaxis.type, plot._fullData.length
])"""

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    done = run_command(folder, "-m", "rho=0.01,0.1", "sparsity=0.3,0.7", *SHORT, "figures=auto")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def links(swept: Path) -> Iterator[dict[str, str]]:
    """Start the command, read its links, and interrupt it as a user does."""
    # A shell's background job would ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from admm_exp.app.ui_command import main; main()"
    ui = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=swept,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ui.stdout is not None
    yield dict(ui.stdout.readline().split() for _ in range(2))
    ui.send_signal(signal.SIGINT)
    assert ui.wait(60) == 0
    ui.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def opened(browser: Any, link: str, landmark: str, *, is_fresh: bool = False) -> Any:
    # MLflow draws the columns that are seen alone.
    page = browser.new_page(viewport={"width": 1440 if is_fresh else 1920, "height": 2400})
    if not is_fresh:
        page.add_init_script(NO_ASSISTANT)
    page.goto(link)
    page.get_by_text(landmark).first.wait_for(timeout=PATIENCE_MS)
    return page


def test_the_charts_are_drawn_with_all_runs(browser: Any, links: dict[str, str]) -> None:
    page = opened(browser, links["charts"], "Parallel Coordinates")
    plots = page.locator(".js-plotly-plot")
    page.wait_for_function(
        "document.querySelectorAll('.js-plotly-plot').length >= 4", timeout=PATIENCE_MS
    )
    found = plots.evaluate_all(CHARTS)
    page.close()
    assert "contour" in found[1][0]
    assert [scale for _, scale, _ in found[2:4]] == ["log", "linear"]
    assert all(count >= len(RUNS) for _, _, count in found[2:4])


def test_the_page_says_what_it_shows(browser: Any, links: dict[str, str]) -> None:
    page = opened(browser, links["charts"], "Parallel Coordinates")
    text = page.inner_text("body")
    page.close()
    assert "which penalty rho and which sparsity" in text
    assert "Showing all runs" in text
    assert set(text.splitlines()) >= RUNS
    for title in ("final/flops_ratio vs. final/accuracy", "log10_rho vs. sparsity", "Curves"):
        assert title in text


def test_charts_are_legible_beside_the_assistant(browser: Any, links: dict[str, str]) -> None:
    page = opened(browser, links["charts"], "Parallel Coordinates", is_fresh=True)
    page.get_by_text("MLflow Assistant").first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_function(
        "document.querySelectorAll('.js-plotly-plot').length >= 4", timeout=PATIENCE_MS
    )
    widths = page.locator(".js-plotly-plot").evaluate_all(
        "plots => plots.map(plot => plot.getBoundingClientRect().width)"
    )
    page.close()
    assert min(widths[:4]) > 400  # behind them stand small ones that nobody sees


def test_the_table_has_the_columns_sorted(browser: Any, links: dict[str, str]) -> None:
    page = opened(browser, links["table"], "final/sparsity")
    cell = "[role=gridcell][col-id='metrics.`final/val_accuracy`']"
    page.locator(cell).nth(len(RUNS) - 1).wait_for(timeout=PATIENCE_MS)
    accuracies = [float(text) for text in page.locator(cell).all_inner_texts()]
    columns = page.locator("[role=columnheader]").evaluate_all(
        "heads => heads.map(head => head.getAttribute('col-id'))"
    )
    page.close()
    names = [c.split("`")[1] for c in columns if c and c.startswith(("params.", "metrics."))]
    assert names == [
        *("rho", "sparsity", "final/val_accuracy", "final/accuracy", "final/accuracy_drop"),
        "final/flops_ratio",
        "final/sparsity",
    ]
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_report_reads_the_same_runs_from_the_server(swept: Path, links: dict[str, str]) -> None:
    address = links["table"].partition("/#/")[0]
    code = "from admm_exp.app.report_command import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, f"tracking_uri={address}", "output=report"],
        cwd=swept,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (swept / "report" / "report.html").read_text()
    assert f"<h1>admm_exp: {len(RUNS)} runs</h1>" in page
    assert page.count(f'<a href="{address}/#/experiments/1/runs/') == len(RUNS)
    assert (swept / "report" / "residuals.png").exists()
