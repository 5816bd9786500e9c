import re
from html.parser import HTMLParser

import pytest
from support.runs import details, grid, row

from admm_exp.report.comparison import group_settings
from admm_exp.report.figures.comparison import draw_comparison
from admm_exp.report.page.page import comparison_page
from admm_exp.report.page.tables import runs_table, settings_table


class Reader(HTMLParser):
    """Reads tables as lists of rows of texts, and every address."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.addresses, self._open = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in ("src", "href", "srcset", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self._open = tag in ("td", "th", "a", "button")

    def handle_data(self, data):
        if self._open and self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data.strip()


def columns(table):
    texts = [[cell.text for cell in line] for line in table.lines]
    return dict(zip(table.titles, zip(*texts, strict=True), strict=True))


def settings_columns(rows):
    settings = group_settings(rows)
    return columns(settings_table(settings))


def test_a_setting_shows_mean_std_and_n():
    rows = [row(seed=seed, accuracy=a) for seed, a in enumerate((0.9, 0.92))]
    found = settings_columns(rows)
    assert found["test accuracy"] == ("91.00 ± 1.41%",)
    assert (found["n"], found["MACs"], found["FLOPs ratio"]) == (("2",), ("200 k",), ("0.250",))


def test_a_setting_shows_its_difference_to_the_reference_seed_by_seed():
    rows = [row(seed=s, accuracy=a, rho=0.1) for s, a in enumerate((0.90, 0.91, 0.92))]
    rows += [row(seed=s, accuracy=a, rho=0.2) for s, a in enumerate((0.91, 0.93, 0.95))]
    settings = group_settings(rows)
    against = {"sparsity 0.5": settings[0]}
    found = columns(settings_table(settings, against))
    assert found["difference"] == ("reference", "+2.00 ± 0.58 (n 3)")


def test_the_best_says_from_what_it_is_told_apart():
    page = comparison_page("t", {}, [row(rho=0.1), row(rho=0.2)], [])
    assert "not from rho=0.1 with 1 seed: add &#39;seed=range(5)&#39;" in page


def test_what_training_took_stands_beside_a_setting():
    found = settings_columns([row(training_macs=3e12, training_seconds=12.0)])
    assert (found["training MACs"], found["training, s"]) == (("3 T",), ("12",))


def test_what_no_run_has_takes_no_column():
    found = columns(runs_table(group_settings([row(val_accuracy=None)]), {}))
    assert not {"series", "latency, ms", "validation accuracy"} & set(found)


def test_what_one_run_lacks_is_a_dash_that_sorts_last():
    rows = [row(), row(rho=1.0, primal_residual=None)]
    table = runs_table(group_settings(rows), {})
    (cells,) = [[line[i] for line in table.lines] for i in [table.titles.index("primal residual")]]
    assert sorted((cell.text, cell.value) for cell in cells) == [("10", 10.0), ("–", "")]


def test_a_run_links_to_its_page_and_cells_carry_the_number_they_sort_by():
    links = {row()["run_id"]: "http://host/?a=1&b=2"}
    html = comparison_page("one", {}, [row(accuracy=0.98765)], [], links=links)
    assert Reader(html).addresses == ["http://host/?a=1&b=2"]
    assert '<td data-value="0.98765">98.77%</td>' in html


def test_the_first_lines_are_the_best_of_every_sparsity():
    rows = [
        row(rho, s, val_accuracy=0.9 - s - rho / 10, run_id=f"{rho} {s}")
        for s in (0.3, 0.7)
        for rho in (k / 500 for k in range(1, 201))
    ]
    table = runs_table(group_settings(rows), {})
    assert len(table.lines) == 400
    expected = {f"{k / 500} {s}" for s in (0.3, 0.7) for k in range(1, 51)}
    assert set(table.ids[:100]) == expected


def test_a_long_table_shows_a_hundred_lines_until_asked():
    rows = [row(rho=k / 1000, run_id=str(k)) for k in range(1, 103)]
    page = comparison_page("many", {}, rows, [])
    assert "show all 102" in page
    assert "nth-child(n+101)" in page
    assert "show all" not in comparison_page("few", {}, rows[:100], [])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rows = grid(seeds=2, **details())
    figures = draw_comparison(rows, tmp_path_factory.mktemp("figures"))
    failed = {"run_name": "rho=9", "status": "FAILED", "error": "NaN <script>"}
    return comparison_page("a < b", {"store": "x"}, rows, figures, unfinished=[failed])


def test_the_page_holds_its_pictures_and_asks_for_nothing_else(page):
    addresses = Reader(page).addresses
    pictures = [a for a in addresses if not a.startswith("#run-")]
    assert len(pictures) == 4
    assert all(address.startswith("data:image/png;base64,") for address in pictures)
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|@import|url\(", page)


def test_the_page_has_best_settings_runs_and_failures(page):
    best, settings, runs, failed = Reader(page).tables
    assert [len(table) - 1 for table in (best, settings, runs, failed)] == [3, 6, 12, 1]
    assert failed[1] == ["rho=9", "FAILED", "NaN <script>"]


def test_a_point_says_which_run_it_is_and_leads_to_its_line(page):
    spots = re.findall(
        r'<a class="spot[^>]*href="#(.*?)" style="(.*?)"><span>(.*?)</span>', page, re.S
    )
    assert len(spots) == 6 + 3 * 6  # accuracy against cost, three maps
    for target, style, about in spots:
        assert f'id="{target}"' in page
        assert all(0 <= float(place) <= 100 for place in re.findall(r"([\d.]+)%", style))
        assert about.startswith("sparsity 0.")


def test_texts_are_escaped(page):
    assert "<h1>a &lt; b</h1>" in page
    assert "NaN <script>" not in page


def test_without_seeds_there_is_no_table_of_settings():
    page = comparison_page("one", {}, grid(), [])
    assert "<h2>Settings</h2>" not in page
    assert len(Reader(page).tables) == 2
