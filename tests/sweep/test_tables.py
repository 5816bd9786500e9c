import math

from support.runs import row

from admm_exp.sweep.tables import best_table, difference_table, front_table, job_table, seed_table


def two_methods():
    """Runs of ADMM, 1, 2 and 3 points above one-shot, and what they cost."""
    values = {"admm": (0.91, 0.93, 0.95), "oneshot": (0.90, 0.91, 0.92)}
    cost = {"admm": {"training_macs": 3e9}, "oneshot": {"training_macs": 1e9}}
    return [
        row(
            seed=seed,
            method=method,
            accuracy=value,
            val_accuracy=value,
            run_name=f"method={method},seed={seed}",
            training_seconds=10.0,
            **cost[method],
        )
        for method, found in values.items()
        for seed, value in enumerate(found)
    ]


def test_differences_are_paired_and_have_their_standard_error_and_n():
    header, line = difference_table(two_methods())
    assert header == ("setting", "minus", "test, points", "val, points")
    assert line == ("method=admm", "method=oneshot", *["+2.00 ± 0.58 (n 3)"] * 2)


def test_a_single_setting_has_no_differences():
    assert difference_table([row(seed=0), row(seed=1)]) == []


def test_what_training_took_stands_beside_every_method():
    found = {line[0]: line[-2:] for line in seed_table(two_methods())[1:]}
    assert found == {"method=admm": ("3 G", "10.0"), "method=oneshot": ("1 G", "10.0")}
    header, *lines = job_table(two_methods())
    assert header[-3:] == ("training MACs", "training s", "status")
    assert lines[0][-3:-1] == ("3 G", "10.0")


def test_a_run_of_an_older_version_has_no_cost():
    assert job_table([row()])[1][-3:-1] == ("", "")


def test_the_best_says_from_what_it_is_told_apart():
    _, line = best_table(two_methods())
    assert (line[0], line[1], line[-1]) == ("sparsity 0.5", "method=admm", "from all others")
    _, line = best_table(two_methods()[:1] + two_methods()[3:4])
    assert line[-1] == "not from method=oneshot with 1 seed: add 'seed=range(5)'"


def test_a_sweep_over_seeds_alone_has_a_name_in_its_tables():
    rows = [
        row(seed=seed, accuracy=a, run_name=f"seed={seed}") for seed, a in enumerate((0.9, 0.92))
    ]
    assert seed_table(rows)[1][:3] == ("all seeds", "2", "91.00 ± 1.41%")
    assert front_table(rows)[1][0] == "all seeds"
    assert best_table(rows) == []


def test_choices_stand_on_validation_and_both_accuracies_are_told_apart():
    rows = [run | {"val_accuracy": run["accuracy"] / 2} for run in two_methods()]
    _, line = difference_table(rows)
    assert line[2:] == ("+2.00 ± 0.58 (n 3)", "+1.00 ± 0.29 (n 3)")
    _, line = best_table(rows)
    assert line[3:5] == ("46.50 ± 1.00%", "93.00 ± 2.00%")


def test_a_cost_that_is_unknown_stands_empty():
    unknown = [row(status="finished", training_macs=math.nan, training_seconds=math.nan)]
    assert job_table(unknown)[1][-3:-1] == ("", "")
