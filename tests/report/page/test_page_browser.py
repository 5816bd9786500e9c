"""The page in a real browser: its widths, its points and 2,000 runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import chromium, needs_chromium
from support.runs import details, grid, row

from admm_exp.report.figures.comparison import draw_comparison
from admm_exp.report.page.page import comparison_page

pytestmark = [pytest.mark.slow, needs_chromium]

SEEN = "table => [...table.tBodies[0].rows].filter(row => row.offsetHeight > 0).length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def opened(browser: Any, html: str, folder: Path) -> Any:
    path = folder / "report.html"
    path.write_text(html)
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(path.as_uri())
    return page


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("page")
    rows = grid(seeds=2, **details())
    html = comparison_page("made up", {}, rows, draw_comparison(rows, folder))
    return opened(browser, html, folder)


@pytest.mark.parametrize("width", [390, 1440, 1920])
def test_the_page_itself_never_scrolls_sideways(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hovering_a_point_says_which_setting_it_is(page: Any) -> None:
    spot = page.locator(".spot").first
    assert not spot.locator("span").is_visible()
    spot.hover()
    assert "sparsity 0.3, rho 0.001" in spot.locator("span").inner_text()


def test_the_edge_of_a_header_cell_sorts_too(page: Any) -> None:
    title = page.locator("table").last.locator("th").nth(1)
    title.click(position={"x": 2, "y": 2})
    assert title.get_attribute("aria-sort") == "ascending"


def test_2000_runs_open_at_once_and_show_a_hundred(browser: Any, tmp_path: Path) -> None:
    rows = [row(rho=k / 1000, run_id=str(k), seed=k % 3) for k in range(1, 2001)]
    page = opened(browser, comparison_page("many", {}, rows, []), tmp_path)
    table = page.locator("table").last
    assert table.evaluate(SEEN) == 100
    page.get_by_label("show all 2,000").check()
    assert table.evaluate(SEEN) == 2000
