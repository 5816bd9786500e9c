"""Which settings MLflow is told, and under which names."""

from admm_exp.tracking.params import PARTS, run_params

SETTINGS = {part: {"name": f"my {part}", "size": 3} for part in PARTS}
SETTINGS |= {"rho": "auto", "seed": 1, "tracking": "mlflow", "tracking_uri": "x", "force": True}


def test_rho_is_a_number_of_three_digits_beside_what_was_asked_for():
    told = run_params(SETTINGS, 0.123456)
    assert (told["rho"], told["log10_rho"], told["rho_setting"]) == (0.123, -0.908, "auto")


def test_parts_are_told_by_name_and_arguments_and_where_the_run_is_kept_is_not():
    told = run_params(SETTINGS, 1.0)
    names = {"rho", "log10_rho", "rho_setting", "seed", *PARTS}
    assert set(told) == names | {f"{part}.size" for part in PARTS}
    assert told["model"] == "my model"
