import math

import pytest

from admm_exp.report.wording import (
    count,
    count_epochs,
    markdown_table,
    mean_std,
    points,
    size,
    tick_percent,
)
from admm_exp.statistics import Paired, spread_of


@pytest.mark.parametrize(
    ("value", "text"), [(77754, "77.8 k"), (2.5e6, "2.5 M"), (3e9, "3 G"), (999, "999"), (0, "0")]
)
def test_a_count_has_three_digits_and_a_unit(value, text):
    assert count(value) == text


def test_epochs_that_are_parts_of_a_pass_are_told():
    assert count_epochs(12, 3) == "12 epochs (3 are a pass over the data)"
    assert count_epochs(12, 1) == "12 epochs"


def test_bytes_are_named_with_and_without_a_prefix():
    assert (size(77754), size(12)) == ("77.8 kB", "12 B")


def test_one_run_has_no_standard_deviation():
    assert mean_std(spread_of([0.9])) == "90.00%"
    assert mean_std(spread_of([0.9, 0.92])) == "91.00 ± 1.41%"
    assert mean_std(None) == "–"


def test_a_difference_says_its_sign_error_and_n():
    assert points(Paired(-0.004, 0.001, 3)) == "-0.40 ± 0.10 (n 3)"
    assert points(Paired(0.004, math.nan, 1)) == "+0.40 (n 1)"


def test_a_markdown_table_has_a_header():
    assert markdown_table([("a", "b"), ("1", "2")]).splitlines() == [
        "| a | b |",
        "|---|---|",
        "| 1 | 2 |",
    ]


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.985, "98.5%"), (1.0, "100%"), (1.005, ""), (0.1 * 3 / 0.3, "100%")]
)
def test_no_axis_goes_beyond_100_percent(fraction, text):
    assert tick_percent(fraction) == text
