import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from admm_exp.errors import ConfigError
from admm_exp.search import SearchSettings, ask, dead_energy_limits, open_study

optuna = pytest.importorskip("optuna", reason="needs the extra search")


def settings(folder: Path, **changes: Any) -> SearchSettings:
    storage = f"sqlite:///{folder}/new/search.db"
    plain = {"objectives": ["accuracy", "macs"], "trials": 2, "batch": 1, "storage": storage}
    return SearchSettings(**(plain | {"study_name": None, "stops_hopeless": True} | changes))


def test_limits_are_three_medians_in_the_second_half() -> None:
    curves = [[0.9, 0.5, 0.1, value] for value in (0.01, 0.02, 0.03, 0.2)]
    assert dead_energy_limits(curves, 4) == (
        math.inf,
        math.inf,
        pytest.approx(0.3),
        pytest.approx(0.075),
    )


def test_curves_of_another_length_are_compared_at_the_same_share() -> None:
    curves = [[0.5, 0.1]] * 4
    inf = math.inf
    assert dead_energy_limits(curves, 4) == (inf, inf, pytest.approx(0.3), pytest.approx(0.3))


def test_one_percent_is_never_hopeless() -> None:
    assert dead_energy_limits([[1e-6, 1e-6]] * 4, 2) == (math.inf, 0.01)


def test_three_curves_are_too_few_to_judge() -> None:
    assert dead_energy_limits([[1e-6, 1e-6]] * 3, 2) == ()


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
