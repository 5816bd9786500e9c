import pytest

from admm_exp.bench.registry import ENTRIES, chosen
from admm_exp.errors import ConfigError


def test_a_quick_benchmark_leaves_the_long_rows_out() -> None:
    long = {"multiple", "overhead", "first", "job", "sweep"}
    assert set(chosen([], is_quick=False)) - set(chosen([], is_quick=True)) == long


def test_rows_asked_for_run_in_order_whatever_is_quick() -> None:
    assert chosen(["sweep", "data"], is_quick=True) == ["data", "sweep"]


def test_a_misspelt_row_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="row 'updat' is unknown; did you mean 'update'"):
        chosen(["updat"], is_quick=True)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_row_has_its_function(name: str) -> None:
    assert callable(ENTRIES[name].load())
