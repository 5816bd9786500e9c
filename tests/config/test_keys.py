"""What a misspelt setting was meant to be."""

import pytest

from admm_exp.config.keys import nearest_key


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("iterations", "schedule.admm_iterations"),
        ("schedule.admm_lrr", "schedule.admm_lr"),
        ("a_group_that_is_none.rhoo", "rho"),
        ("zzz", None),
    ],
)
def test_the_nearest_name_is_found_in_whatever_group_it_was_looked_for(key, meant):
    assert nearest_key(key) == meant
