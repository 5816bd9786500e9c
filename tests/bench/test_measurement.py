import json

import pytest

from admm_exp.bench.measurement import Measurement, Target

ROW = Measurement(
    "toy", "work", {"usual": [4.0, 8.0, 6.0], "ours": [1.0, 4.0, 2.0]}, 0.5, "4 bytes", items=10
)


def test_the_ratio_pairs_the_rounds() -> None:
    assert ROW.ratio("ours") == pytest.approx(1 / 3)  # of 1/4, 1/2, 1/3; of medians it is 2/6
    assert Measurement("r", "r", {"a": [1.0, 2.0, 9.0], "b": [2.0, 2.0, 9.0]}).ratio("b") == 1.0


def test_median_spread_and_distance_to_the_limit() -> None:
    assert ROW.median_seconds("usual") == 6.0
    assert ROW.iqr_seconds("usual") == pytest.approx(2.0)
    assert ROW.times_limit("ours") == 4.0
    assert Measurement("r", "r", {"a": [1.0]}).iqr_seconds("a") == 0.0


@pytest.mark.parametrize(
    ("target", "is_met"),
    [
        (Target("share", 0.02, 0.01), False),
        (Target("share", 0.01, 0.01), True),
        (Target("times", 9.0, 10.0, is_lower_bound=True), False),
        (Target("times", 11.0, 10.0, is_lower_bound=True), True),
    ],
)
def test_a_target_has_a_side(target: Target, is_met: bool) -> None:
    assert target.is_met is is_met


def test_a_row_is_json_with_its_targets() -> None:
    row = ROW.with_targets(Target("share", 0.5, 0.1)).with_notes({"MACs": 4.0})
    read = json.loads(json.dumps(row.as_dict()))
    assert read["variants"]["ours"]["median_seconds"] == 2.0
    assert read["targets"][0]["is_met"] is False
    assert read["notes"] == {"MACs": 4.0}
