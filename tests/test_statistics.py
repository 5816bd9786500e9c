import math

import pytest

from admm_exp.statistics import compare, look_up, paired


def report(method, seed, accuracy, sparsity=0.5):
    return {
        "seed": seed,
        "config": {"method": {"name": method}, "sparsity": sparsity},
        "models": {"finetuned": {"test_accuracy": accuracy}},
    }


def rows_of(reports, **options):
    return {(row.setting, row.method): row for row in compare(reports, **options)}


def test_mean_and_std_of_one_two_three_are_two_and_one():
    row = compare([report("admm", seed, value) for seed, value in enumerate((1, 2, 3))])[0]
    assert (row.n, row.mean, row.std) == (3, 2.0, 1.0)


def test_difference_is_taken_seed_by_seed_and_not_between_means():
    reports = [report("admm", s, v) for s, v in ((0, 1.0), (1, 5.0), (2, 9.0))]
    reports += [report("oneshot", s, v) for s, v in ((2, 12.0), (0, 2.0), (1, 7.0), (3, 100.0))]
    row = rows_of(reports, reference="admm")[(0.5,), "oneshot"]
    # differences 1, 2, 3: mean 2, std 1
    assert (row.n, row.n_pairs, row.difference) == (4, 3, 2.0)
    assert row.standard_error == pytest.approx(1 / 3**0.5)


def test_settings_are_compared_among_themselves():
    reports = [report("admm", 0, 1.0), report("oneshot", 0, 3.0)]
    reports += [report("admm", 0, 10.0, 0.75), report("oneshot", 0, 9.0, 0.75)]
    rows = rows_of(reports, reference="admm")
    assert rows[(0.5,), "oneshot"].difference == 2.0
    assert rows[(0.75,), "oneshot"].difference == -1.0


def test_reference_has_no_difference_to_itself():
    row = compare([report("admm", 0, 1.0), report("admm", 1, 1.0)], reference="admm")[0]
    assert (row.n_pairs, row.difference, row.standard_error) == (0, None, None)


def test_one_run_has_neither_std_nor_standard_error():
    rows = rows_of([report("admm", 0, 1.0), report("oneshot", 0, 4.0)], reference="admm")
    row = rows[(0.5,), "oneshot"]
    assert (row.std, row.difference, row.standard_error) == (None, 3.0, None)


def test_without_a_common_seed_there_is_no_difference():
    rows = rows_of([report("admm", 0, 1.0), report("oneshot", 1, 4.0)], reference="admm")
    assert rows[(0.5,), "oneshot"].difference is None


def test_best_method_of_a_setting_comes_first():
    reports = [report("admm", 0, 1.0), report("scratch", 0, 3.0), report("oneshot", 0, 2.0)]
    assert [row.method for row in compare(reports)] == ["scratch", "oneshot", "admm"]


def test_two_runs_of_one_seed_are_refused():
    with pytest.raises(ValueError, match=r"two runs of admm have seed 0 in setting \(0.5,\)"):
        compare([report("admm", 0, 1.0), report("admm", 0, 1.0)])


def test_unknown_reference_names_the_methods_there_are():
    with pytest.raises(ValueError, match="reference 'gradual', got admm"):
        compare([report("admm", 0, 1.0)], reference="gradual")


def test_missing_value_is_named():
    with pytest.raises(ValueError, match=r"a report has no config\.method\.nme"):
        look_up(report("admm", 0, 1.0), "config.method.nme")


def test_a_paired_difference_is_over_the_seeds_that_both_have():
    found = paired({0: 2.0, 1: 7.0, 2: 12.0, 3: 100.0}, {2: 9.0, 0: 1.0, 1: 5.0, 9: 0.0})
    assert (found.mean, found.n) == (2.0, 3)  # differences 1, 2, 3
    assert found.standard_error == pytest.approx(1 / 3**0.5)


def test_without_a_common_seed_nothing_is_paired():
    assert paired({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("differences", "is_told_apart"),
    [
        ([0.5], False),  # one seed tells nothing
        ([0.0, 0.0], False),
        ([1.0, 1.0], True),
        ([1.0, 2.0, 3.0], True),  # 2 +- 0.58
        ([-1.0, -2.0, -3.0], True),
        ([0.0, 1.0, 3.0], False),  # 1.33 +- 0.88
    ],
)
def test_more_than_two_standard_errors_tell_two_settings_apart(differences, is_told_apart):
    found = paired(dict(enumerate(differences)), dict.fromkeys(range(9), 0.0))
    assert found.is_told_apart is is_told_apart


def test_a_single_pair_has_no_standard_error():
    assert math.isnan(paired({0: 1.0}, {0: 0.5}).standard_error)
