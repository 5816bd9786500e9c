import math
import statistics

import pytest
from support.runs import DENSE_MACS, grid, row

from admm_exp.report.comparison import (
    best_per_sparsity,
    dense_networks,
    judged_by,
    pareto_front,
    settings_of,
    spread,
)


def test_seeds_are_summed_up_by_mean_and_sample_std():
    (setting,) = settings_of([row(seed=seed, accuracy=a) for seed, a in enumerate((0.9, 0.8, 0.4))])
    found = setting.spread("accuracy")
    assert found.n == 3
    assert found.mean == pytest.approx(0.7)
    assert found.std == pytest.approx(statistics.stdev([0.9, 0.8, 0.4]))


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_unknown_does_not_count(value):
    assert spread([0.5, value, 0.7]) == spread([0.5, 0.7])
    assert spread([value]) is None


def test_one_run_has_no_std():
    assert math.isnan(spread([0.5]).std)


def test_settings_are_the_grid_in_order():
    found = [(s.sparsity, s.rho, len(s.rows)) for s in settings_of(grid(seeds=2)[::-1])]
    assert found == [(s, rho, 2) for s in (0.3, 0.5, 0.7) for rho in (0.001, 0.1)]


@pytest.mark.parametrize("name", ["accuracy", "rho", "sparsity"])
def test_runs_without_result_or_place_are_left_out(name):
    assert settings_of([row(), row(seed=1) | {name: None}])[0].rows == (row(),)


@pytest.mark.parametrize("name", ["method", "model", "metric", "dataset"])
def test_what_else_is_swept_names_the_series(name):
    found = settings_of([row(), row(**{name: "other"})])
    assert {s.series for s in found} == {f"{name}={row()[name]}", f"{name}=other"}


def test_any_parameter_can_name_a_series_and_a_part_stands_for_its_arguments():
    def run(metric, epochs, root):
        settings = {"metric": metric, "metric._target_": metric, "dataset.root": root}
        return row(metric=metric, settings=settings | {"schedule.admm_epoch": epochs})

    found = settings_of([run("l1_norm", 2, "/a"), run("l2_norm", 4, "/b")])
    assert [s.series for s in found] == [
        "metric=l1_norm, schedule.admm_epoch=2",
        "metric=l2_norm, schedule.admm_epoch=4",
    ]


def brute_force_front(settings):
    def is_beaten(a):
        return any(
            b.mean("macs") <= a.mean("macs")
            and b.mean("val_accuracy") >= a.mean("val_accuracy")
            and (b.mean("macs"), b.mean("val_accuracy")) != (a.mean("macs"), a.mean("val_accuracy"))
            for b in settings
        )

    return [s for s in settings if not is_beaten(s)]


def test_the_front_is_what_nothing_beats():
    places = [(1, 5), (2, 4), (2, 6), (3, 6), (4, 9), (5, 7), (6, 10)]
    runs = [row(rho=i + 1, macs=m, val_accuracy=v) for i, (m, v) in enumerate(places)]
    settings = settings_of(runs)
    assert {s.rho for s in pareto_front(settings)} == {s.rho for s in brute_force_front(settings)}
    assert [s.mean("macs") for s in pareto_front(settings)] == [1, 2, 4, 6]


def test_choices_are_made_on_validation_data():
    lucky = row(rho=1.0, accuracy=0.99, val_accuracy=0.5)
    honest = row(rho=2.0, accuracy=0.9, val_accuracy=0.6)
    settings = settings_of([lucky, honest])
    assert [s.rho for s in best_per_sparsity(settings)] == [2.0]
    assert [s.rho for s in pareto_front(settings)] == [2.0]


def test_among_equals_the_better_converged_is_chosen():
    runs = [row(rho=rho, val_accuracy=0.9, primal_residual=r) for rho, r in ((1, 3.0), (2, 0.5))]
    settings = settings_of([*runs, row(rho=3, val_accuracy=0.9, primal_residual=None)])
    assert [s.rho for s in best_per_sparsity(settings)] == [2.0]
    assert [s.rho for s in pareto_front(settings)] == [2.0]


def test_choices_are_made_on_test_data_only_where_validation_is_unknown():
    settings = settings_of([row(rho=1.0), row(rho=2.0, val_accuracy=None, accuracy=1.0)])
    assert judged_by(settings) == "accuracy"
    assert [s.rho for s in best_per_sparsity(settings)] == [2.0]


def test_the_dense_network_counts_once_a_seed():
    runs = [row(rho, seed=s, dense_accuracy=a) for s, a in ((0, 0.9), (1, 0.8)) for rho in (1, 2)]
    (dense,) = dense_networks(runs)
    assert (dense.macs, dense.accuracy.n, dense.label) == (DENSE_MACS, 2, "dense resnet8 on digits")
    assert dense.accuracy.mean == pytest.approx(0.85)
