"""Paired differences as metrics of a sweep's parent run."""

import re

from support.runs import row

from admm_exp.report.comparison import group_settings
from admm_exp.sweep.differences import difference_metrics
from admm_exp.tracking.limits import MAX_KEY_LENGTH

KEY = "0.5/method-admm-rho-0.1"


def runs(method, values, **others):
    name = f"method={method},rho=0.1"
    return [
        row(seed=seed, method=method, accuracy=value, run_name=f"{name},seed={seed}", **others)
        for seed, value in enumerate(values)
    ]


def test_difference_error_and_n_stand_under_the_setting():
    rows = runs("admm", (0.91, 0.93, 0.95)) + runs("oneshot", (0.90, 0.91, 0.92))
    assert difference_metrics(group_settings(rows)) == {
        f"difference/{KEY}": 0.02,
        f"difference_n/{KEY}": 3.0,
        f"difference_error/{KEY}": 0.005774,
    }


def test_a_single_seed_has_no_error():
    rows = runs("admm", (0.91,)) + runs("oneshot", (0.90,))
    assert set(difference_metrics(group_settings(rows))) == {
        f"difference/{KEY}",
        f"difference_n/{KEY}",
    }


def test_names_are_what_mlflow_takes():
    asked = {"settings": {"budget.macs": 0.3}}
    rows = runs("admm", (0.9,), **asked) + runs("oneshot{x}", (0.8,), **asked)
    names = difference_metrics(group_settings(rows))
    assert names
    assert all(re.fullmatch(r"[\w./ -]+", name) for name in names)
    assert all("/macs-0.3/" in name for name in names)


def test_two_seeds_have_an_error():
    rows = runs("admm", (0.91, 0.93)) + runs("oneshot", (0.90, 0.91))
    assert difference_metrics(group_settings(rows))[f"difference_error/{KEY}"] == 0.005


def test_no_name_is_longer_than_mlflow_takes():
    rows = runs("a" * 300, (0.9,)) + runs("oneshot", (0.8,))
    names = difference_metrics(group_settings(rows))
    assert names
    assert all(len(name) <= MAX_KEY_LENGTH for name in names)
