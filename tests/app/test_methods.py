"""All methods through the command: the same data, dense network, cut and report."""

import json
from typing import Any

import pytest
from conftest import SHORT, run_command

pytestmark = pytest.mark.long

METHODS = ("admm", "oneshot", "gradual", "scratch", "group_lasso")
PHASES = {
    "admm": {"dense": 2, "admm": 2, "finetune": 1},
    "oneshot": {"dense": 2, "finetune": 3},
    "gradual": {"dense": 2, "gradual": 2, "finetune": 1},
    "scratch": {"dense": 2, "scratch": 5},
    "group_lasso": {"dense": 2, "group_lasso": 2, "finetune": 1},
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Sweep over all methods, with recalibration and both kinds of distillation."""
    folder = tmp_path_factory.mktemp("methods")
    done = run_command(
        folder,
        "-m",
        *SHORT,
        "figures=auto",
        "tracking=none",
        f"method={','.join(METHODS)}",
        "schedule.recalibration_batches=4",
        "schedule.finetune.distillation.weight=0.5",
        "schedule.admm_distillation.weight=0.5",
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in folder.rglob("report.json")]
    pages = [path.read_text() for path in folder.rglob("report.md")]
    return {r["config"]["method"]["name"]: r for r in found} | {"pages": pages}


@pytest.mark.parametrize("method", METHODS)
def test_epochs_are_counted_and_their_total_is_equal(reports: dict[str, Any], method: str) -> None:
    assert reports[method]["epochs"] == PHASES[method] | {"total": 5}


@pytest.mark.parametrize("method", METHODS)
def test_the_cut_is_exact_and_as_deep_as_for_admm(reports: dict[str, Any], method: str) -> None:
    report, admm = reports[method], reports["admm"]
    assert report["surgery"]["max_abs_difference"] <= 1e-4
    for key in ("params", "macs"):
        assert report["models"]["finetuned"][key] == admm["models"]["finetuned"][key]
    assert [row["kept"] for row in report["layers"]] == [row["kept"] for row in admm["layers"]]


@pytest.mark.parametrize("method", METHODS)
def test_all_start_from_one_dense_network(reports: dict[str, Any], method: str) -> None:
    assert (
        reports[method]["models"]["dense"]["test_loss"]
        == (reports["admm"]["models"]["dense"]["test_loss"])
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_cut_is_reported_plain_and_recalibrated(reports: dict[str, Any], method: str) -> None:
    models = reports[method]["models"]
    if method == "scratch":  # its random network was never cut
        assert "recalibrated" not in models
        times = {name: models["pruned"][name] for name in ("latency_ms", "latency_spread_ms")}
        assert models["pruned"] == reports["oneshot"]["models"]["pruned"] | times
        return
    assert models["recalibrated"]["test_loss"] != models["pruned"]["test_loss"]
    assert models["recalibrated"]["macs"] == models["pruned"]["macs"]


def test_pages_show_the_recalibrated_column_and_the_epochs(reports: dict[str, Any]) -> None:
    for page in reports["pages"]:
        is_scratch = page.startswith("# resnet8 on digits, scratch")
        assert ("| after the cut | recalibrated | finetuned |" in page) != is_scratch
        assert "trained for 5 epochs in all." in page
        is_admm = page.startswith("# resnet8 on digits, admm")
        assert is_admm or "residuals.png" not in page  # a sweep draws its best runs alone
