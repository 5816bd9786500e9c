import math
import statistics

import pytest
from support.runs import DENSE_MACS, grid, row

from admm_exp.report.comparison import (
    best_per_amount,
    by_amount,
    difference,
    group_settings,
    judged_by,
    pareto_front,
    references,
    remark,
    rivals,
    spread,
)
from admm_exp.report.dense import dense_networks


def test_seeds_are_summed_up_by_mean_and_sample_std():
    (setting,) = group_settings(
        [row(seed=seed, accuracy=a) for seed, a in enumerate((0.9, 0.8, 0.4))]
    )
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
    found = [(s.sparsity, s.rho, len(s.rows)) for s in group_settings(grid(seeds=2)[::-1])]
    assert found == [(s, rho, 2) for s in (0.3, 0.5, 0.7) for rho in (0.001, 0.1)]


@pytest.mark.parametrize("name", ["accuracy", "rho", "sparsity"])
def test_runs_without_result_or_place_are_left_out(name):
    assert group_settings([row(), row(seed=1) | {name: None}])[0].rows == (row(),)


@pytest.mark.parametrize("name", ["method", "model", "metric", "dataset"])
def test_what_else_is_swept_names_the_series(name):
    found = group_settings([row(), row(**{name: "other"})])
    assert {s.series for s in found} == {f"{name}={row()[name]}", f"{name}=other"}


def test_any_parameter_can_name_a_series_and_a_part_stands_for_its_arguments():
    def run(metric, epochs, root):
        settings = {"metric": metric, "metric._target_": metric, "dataset.root": root}
        return row(metric=metric, settings=settings | {"schedule.admm_epoch": epochs})

    found = group_settings([run("l1_norm", 2, "/a"), run("l2_norm", 4, "/b")])
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
    settings = group_settings(runs)
    assert {s.rho for s in pareto_front(settings)} == {s.rho for s in brute_force_front(settings)}
    assert [s.mean("macs") for s in pareto_front(settings)] == [1, 2, 4, 6]


def test_choices_are_made_on_validation_data():
    lucky = row(rho=1.0, accuracy=0.99, val_accuracy=0.5)
    honest = row(rho=2.0, accuracy=0.9, val_accuracy=0.6)
    settings = group_settings([lucky, honest])
    assert [s.rho for s in best_per_amount(settings)] == [2.0]
    assert [s.rho for s in pareto_front(settings)] == [2.0]


def test_among_equals_the_better_converged_is_chosen():
    runs = [row(rho=rho, val_accuracy=0.9, primal_residual=r) for rho, r in ((1, 3.0), (2, 0.5))]
    settings = group_settings([*runs, row(rho=3, val_accuracy=0.9, primal_residual=None)])
    assert [s.rho for s in best_per_amount(settings)] == [2.0]
    assert [s.rho for s in pareto_front(settings)] == [2.0]


def test_choices_are_made_on_test_data_only_where_validation_is_unknown():
    settings = group_settings([row(rho=1.0), row(rho=2.0, val_accuracy=None, accuracy=1.0)])
    assert judged_by(settings) == "accuracy"
    assert [s.rho for s in best_per_amount(settings)] == [2.0]


def test_the_dense_network_counts_once_a_seed():
    runs = [row(rho, seed=s, dense_accuracy=a) for s, a in ((0, 0.9), (1, 0.8)) for rho in (1, 2)]
    (dense,) = dense_networks(runs)
    assert (dense.macs, dense.accuracy.n, dense.label) == (DENSE_MACS, 2, "dense resnet8 on digits")
    assert dense.accuracy.mean == pytest.approx(0.85)


def runs_of(values, **others):
    return [row(seed=i, accuracy=v, val_accuracy=v, **others) for i, v in enumerate(values)]


def test_n_counts_distinct_seeds():
    (setting,) = group_settings([row(seed=0), row(seed=0, run_id="again"), row(seed=1)])
    assert (setting.n, setting.spread("accuracy").n, len(setting.rows)) == (2, 2, 3)


@pytest.mark.parametrize(
    "name",
    [
        *("experiment_name", "tracking", "tracking_uri", "name", "device", "export", "inference"),
        *("trainer.devices", "trainer.patience_seconds", "dataset.root", "dataset.workers"),
    ],
)
def test_runs_that_differ_in_what_decides_nothing_are_one_run(name):
    (setting,) = group_settings([row(settings={name: "a"}), row(settings={name: "b"})])
    assert (setting.n, setting.series) == (1, "")


@pytest.mark.parametrize("none", [None, "None"])  # of a report, of MLflow
def test_a_run_with_a_budget_is_not_listed_under_a_sparsity(none):
    asked = {"budget.macs": "0.3", "budget.params": none, "layers": none}
    with_budget = row(settings=asked)
    plain = row(settings={"budget.macs": none, "budget.params": none, "layers": none})
    found = group_settings([with_budget, plain])
    assert {s.amount for s in found} == {"sparsity 0.5", "macs 0.3"}
    assert [s.series for s in found] == ["", ""]
    assert [s.amount for s in best_per_amount(found)] == ["sparsity 0.5", "macs 0.3"]


def test_runs_from_a_layers_file_are_not_listed_under_a_sparsity():
    found = group_settings([row(settings={"layers": "a/my.yaml"}), row(settings={"layers": None})])
    assert {s.amount for s in found} == {"sparsity 0.5", "layers my.yaml"}


def test_settings_are_compared_with_one_shot_where_it_is_one_of_the_methods():
    rows = runs_of([0.9, 0.92], method="admm") + runs_of([0.8, 0.83], method="oneshot")
    settings = group_settings([*rows, *runs_of([0.7, 0.7], method="gradual")])
    (reference,) = references(settings).values()
    assert reference.series == "method=oneshot"
    (best,) = best_per_amount(settings)
    found = difference(best, reference, "accuracy")
    assert (found.mean, found.n) == (pytest.approx(0.095), 2)


def test_settings_are_compared_with_the_best_where_there_is_no_one_shot():
    settings = group_settings(runs_of([0.8, 0.8], rho=0.1) + runs_of([0.9, 0.9], rho=0.2))
    assert references(settings)["sparsity 0.5"].rho == 0.2
    assert references(settings[:1]) == {}


def test_the_best_is_told_apart_by_two_standard_errors_alone():
    clear, near = runs_of([0.5, 0.5, 0.5], rho=0.1), runs_of([0.89, 0.91, 0.90], rho=0.2)
    settings = group_settings([*clear, *near, *runs_of([0.90, 0.91, 0.90], rho=0.3)])
    (best,) = best_per_amount(settings)
    assert [s.rho for s in rivals(best, settings)] == [0.2]
    assert remark(best, settings) == "not from rho=0.2 with 3 seeds: add 'seed=range(6)'"
    assert remark(best, [s for s in settings if s.rho != 0.2]) == "from all others"
    assert remark(best, [best]) == ""


def test_one_seed_tells_nothing_apart():
    settings = group_settings([row(rho=0.1, val_accuracy=0.5), row(rho=0.2, val_accuracy=0.9)])
    (best,) = best_per_amount(settings)
    assert remark(best, settings) == "not from rho=0.1 with 1 seed: add 'seed=range(5)'"


def test_amounts_come_in_their_order():
    rows = [row(sparsity=0.7), row(sparsity=0.3), row(settings={"budget.macs": 0.5})]
    assert list(by_amount(group_settings(rows))) == ["sparsity 0.3", "sparsity 0.7", "macs 0.5"]


def test_a_seed_of_a_part_makes_no_series_of_its_own():
    runs = [row(seed=seed, settings={"dataset.seed": seed, "metric.seed": seed}) for seed in (0, 1)]
    (setting,) = group_settings(runs)
    assert len(setting.rows) == 2


def test_runs_of_one_seed_count_once_with_their_mean():
    (setting,) = group_settings([row(accuracy=0.5), row(accuracy=0.9), row(seed=1, accuracy=0.4)])
    assert setting.by_seed("accuracy") == {0: pytest.approx(0.7), 1: 0.4}


@pytest.mark.parametrize("text", ["abc", "nan", "1e999"])
def test_a_budget_that_is_no_number_is_named_as_it_stands(text):
    (setting,) = group_settings([row(settings={"budget.macs": text})])
    assert setting.amount == f"macs {text}"


def test_seeds_whose_dense_networks_differ_in_cost_show_the_middle_one():
    rows = [row(seed=seed, dense_macs=macs) for seed, macs in enumerate((10, 20, 90))]
    assert [dense.macs for dense in dense_networks(rows)] == [20.0]
