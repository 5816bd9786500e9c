"""What the processes of a sweep load before they are forked."""

import pytest

from admm_exp.app.preloaded import modules


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"is_tracked": False}, "mlflow"),
        ({"is_drawn": False}, "matplotlib.figure"),
        ({"has_digits": False}, "sklearn.datasets"),
    ],
)
def test_what_runs_do_not_need_is_not_loaded_for_them(setting: dict[str, bool], name: str) -> None:
    assert name in modules()
    assert name not in modules(**setting)
    assert "admm_exp.experiment.run" in modules(**setting)
