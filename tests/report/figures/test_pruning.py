"""The picture of what pruning did, and that of a support that moves."""

from typing import Any

import pytest

from admm_exp.report.figures.pruning import (
    MAX_GROUPS,
    has_moved,
    outcome,
    outcome_at,
    support_at,
)
from admm_exp.results import hex_digits, kept_units

STAGES = {"dense": 0.99, "before": 0.98, "pruned": 0.4, "finetuned": 0.97}


def layer(index: int, **others: Any) -> dict[str, Any]:
    numbers = {"channels": 16, "kept": 8, "macs": 1000 * (index + 1), "kept_macs": 250}
    return {"name": f"conv{index}"} | numbers | others


def texts(figure: Any) -> set[str]:
    return {part.get_text() for part in figure.findobj(lambda part: hasattr(part, "get_text"))}


def test_every_known_stage_tells_its_accuracy() -> None:
    drawn = texts(outcome(STAGES, [layer(0)], "test accuracy"))
    assert {"dense", "before the cut", "after the cut", "finetuned"} <= drawn
    assert {"99.00%", "98.00%", "40.00%", "97.00%", "test accuracy"} <= drawn


def test_a_group_tells_channels_and_work_before_and_after() -> None:
    drawn = texts(outcome(STAGES, [layer(0), layer(1)], "accuracy"))
    assert {"conv0", "conv1", " 8 / 16", " 250 / 1 k", " 250 / 2 k"} <= drawn
    assert "16 of 32 channels kept, 17% of their layers' multiply-adds" in drawn


def test_work_that_was_not_counted_is_left_out() -> None:
    drawn = texts(outcome(STAGES, [layer(0, macs=None, kept_macs=None)], "accuracy"))
    assert "8 of 16 channels kept" in drawn
    assert not any("multiply-adds" in text for text in drawn)


def test_many_groups_are_those_with_most_work_and_the_rest() -> None:
    drawn = texts(outcome(STAGES, [layer(index) for index in range(100)], "accuracy"))
    assert f"{100 - MAX_GROUPS + 1} smaller groups" in drawn
    assert "conv99" in drawn
    assert "conv0" not in drawn


def test_a_run_without_recalibration_is_drawn(tmp_path: Any) -> None:
    models = {name: {"test_accuracy": 0.9} for name in ("dense", "pruned", "finetuned")}
    outcome_at({"models": models, "layers": [layer(0)], "admm": None}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def moving(*kept: str) -> dict[str, Any]:
    rows = [{"iteration": n + 1, "support": [each, "c"]} for n, each in enumerate(kept)]
    layers = [layer(0, channels=6), layer(1, channels=4)]
    return {"admm": {"iterations": rows}, "layers": layers}


@pytest.mark.parametrize(("kept", "moved"), [(("e0", "e0"), False), (("e0", "d0"), True)])
def test_a_support_is_drawn_where_it_moved(kept: tuple[str, ...], *, moved: bool) -> None:
    assert has_moved(moving(*kept)) is moved


def test_runs_that_did_not_tell_their_support_are_not_drawn() -> None:
    assert not has_moved({"admm": {"iterations": [{"iteration": 1}] * 2}, "layers": [layer(0)]})
    assert not has_moved({"admm": None})


def test_digits_are_units_in_order() -> None:
    kept = [True, True, False, True, False, True]
    assert hex_digits(kept) == "d4"
    assert kept_units("d4", 6) == kept


def test_the_support_is_drawn(tmp_path: Any) -> None:
    support_at(moving("e0", "d0", "d0"), tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 10_000
