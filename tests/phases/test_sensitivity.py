import pytest

from admm_exp.phases.sensitivity import cached_curves
from admm_exp.pruning.sensitivity import Curve

CURVES = (Curve("a", (0.0, 0.5), (0.9, 0.7)), Curve("b", (0.0, 0.25), (0.9, 0.8)))


def never():
    raise AssertionError("measured again")


def test_curves_are_measured_once(tmp_path):
    path = tmp_path / "entry" / "curves.json"
    assert cached_curves(path, ["a", "b"], lambda: CURVES) == CURVES
    assert cached_curves(path, ["a", "b"], never) == CURVES


@pytest.mark.parametrize("content", ["[", "null", '[{"name": "a"}]', "[]"])
def test_damaged_file_is_measured_anew(tmp_path, content):
    path = tmp_path / "curves.json"
    path.write_text(content)
    assert cached_curves(path, ["a", "b"], lambda: CURVES) == CURVES
    assert cached_curves(path, ["a", "b"], never) == CURVES


def test_curves_of_other_groups_are_measured_anew(tmp_path):
    path = tmp_path / "curves.json"
    cached_curves(path, ["a", "b"], lambda: CURVES)
    assert cached_curves(path, ["a"], lambda: CURVES[:1]) == CURVES[:1]
