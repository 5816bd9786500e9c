import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from admm_exp.errors import ConfigError
from admm_exp.sweep.study import (
    RESULT,
    SearchSettings,
    TrialResult,
    ask,
    dead_energy_limits,
    open_study,
    result_of,
)

optuna = pytest.importorskip("optuna", reason="needs the extra search")


def settings(folder: Path, **changes: Any) -> SearchSettings:
    storage = f"sqlite:///{folder}/new/search.db"
    plain = {"objectives": ["accuracy", "macs"], "trials": 2, "batch": 1, "storage": storage}
    return SearchSettings(**(plain | {"study_name": None, "stops_hopeless": True} | changes))


def result(sparsity: float, val_accuracy: float, *dead_energy: float) -> TrialResult:
    return TrialResult(sparsity, val_accuracy, dead_energy)


GOOD = result(0.9, 0.9, 0.5, 0.2, 0.1, 0.01)
BEATEN = result(0.9, 0.7, 0.9, 0.8, 0.7, 0.6)


def test_a_trial_may_be_as_far_as_a_beaten_one_after_the_first_quarter() -> None:
    assert dead_energy_limits([GOOD, BEATEN], 0.9, 4) == (math.inf, 0.8, 0.7, 0.6)


def test_curves_of_another_length_are_compared_at_the_same_share() -> None:
    limits = dead_energy_limits([GOOD, BEATEN], 0.9, 8)
    assert limits == (math.inf, math.inf, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6)


def test_a_beaten_trial_tells_nothing_of_those_that_cut_less() -> None:
    assert dead_energy_limits([GOOD, BEATEN], 0.5, 4) == ()


def test_only_a_trial_that_cut_at_least_as_much_beats_one() -> None:
    assert not BEATEN.is_beaten_by([result(0.5, 0.99, 0.1)])
    assert BEATEN.is_beaten_by([result(0.95, 0.99, 0.1)])


def test_a_good_trial_that_cut_less_allows_nothing() -> None:
    easy = result(0.5, 0.9, 0.95, 0.95, 0.95, 0.95)
    assert dead_energy_limits([GOOD, BEATEN, easy], 0.9, 4) == (math.inf, 0.8, 0.7, 0.6)


def test_a_trial_that_is_a_little_worse_is_not_beaten() -> None:
    close = result(0.9, 0.81, 0.9, 0.8, 0.7, 0.6)
    assert dead_energy_limits([GOOD, close], 0.9, 4) == ()


def test_one_good_trial_that_was_as_far_allows_it() -> None:
    far = result(0.9, 0.89, 0.95, 0.95, 0.95, 0.95)
    assert dead_energy_limits([GOOD, BEATEN, far], 0.9, 4) == (math.inf, 0.95, 0.95, 0.95)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"objectives": ["speed"]}, "objectives must be accuracy, macs, or both, got ['speed']"),
        ({"objectives": []}, "got []"),
        ({"trials": 0}, "hydra.sweeper.trials must be at least 1, got 0"),
        ({"batch": "two"}, "hydra.sweeper.batch must be at least 1, got two"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings(tmp_path, **change).check()
    assert sentence in str(error.value)


def test_every_kind_of_range_is_kept_to(tmp_path: Path) -> None:
    study = open_study(settings(tmp_path), "ranges")
    ranges = {
        "rho": SimpleNamespace(start=0.01, end=10.0, tags={"log"}),
        "schedule.admm_epoch": SimpleNamespace(start=1, end=3, tags=set()),
        "sparsity": SimpleNamespace(start=0.25, stop=1.0, step=0.25, tags=set()),
        "metric": SimpleNamespace(list=["fpgm", "l2_norm"], tags=set()),
    }
    chosen = [ask(study, ranges)[1] for _ in range(30)]
    assert all(0.01 <= values["rho"] <= 10.0 for values in chosen)
    assert sum(values["rho"] < 1.0 for values in chosen) > 10  # two of three decades
    assert {values["schedule.admm_epoch"] for values in chosen} == {1, 2, 3}
    assert {values["sparsity"] for values in chosen} == {0.25, 0.5, 0.75}
    assert {values["metric"] for values in chosen} == {"fpgm", "l2_norm"}


def test_a_trial_whose_process_died_counts_as_failed(tmp_path: Path) -> None:
    study = open_study(settings(tmp_path), "study")
    trial, _ = ask(study, {})
    ask(study, {})
    trial.set_user_attr("pid", str(2**22 + 1))  # above the largest process id
    states = [t.state.name for t in open_study(settings(tmp_path), "study").get_trials()]
    assert states == ["FAIL", "RUNNING"]


def test_a_study_with_other_objectives_is_refused(tmp_path: Path) -> None:
    open_study(settings(tmp_path), "study")
    with pytest.raises(ConfigError, match="other objectives"):
        open_study(settings(tmp_path, objectives=["accuracy"]), "study")


@pytest.mark.parametrize(
    "noted",
    [
        None,
        3,
        {},
        {"sparsity": 0.5, "val_accuracy": 0.9, "dead_energy": []},
        {"sparsity": "0.5", "val_accuracy": 0.9, "dead_energy": [0.1]},
        {"sparsity": 0.5, "val_accuracy": 0.9, "dead_energy": [0.1, None]},
    ],
)
def test_a_trial_whose_notes_do_not_fit_says_nothing_of_others(noted: object) -> None:
    assert result_of({RESULT: noted}) is None


def test_what_a_trial_noted_is_read_again() -> None:
    assert result_of({RESULT: asdict(GOOD)}) == GOOD


def test_a_value_that_was_chosen_keeps_four_digits() -> None:
    trial = SimpleNamespace(suggest_float=lambda *_, **__: 0.0123456, set_user_attr=lambda *_: None)
    study: Any = SimpleNamespace(ask=lambda: trial)
    spanned = SimpleNamespace(start=0.01, end=0.1, tags=set())
    assert ask(study, {"rho": spanned})[1] == {"rho": 0.01235}
