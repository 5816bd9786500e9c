"""Pruning in rounds: a run that starts from the small network of another one."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SHORT, Done, run_command
from support.stores import client_at, store_of

import admm_exp

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rounds")


def prune(work: Path, *overrides: str) -> Done:
    return run_command(work, *SHORT, "rho=0.5", "model=small_cnn", *overrides)


def run_dirs(work: Path) -> list[Path]:
    return sorted((work / "outputs" / "runs").iterdir())


@pytest.fixture(scope="module")
def reports(work: Path) -> list[dict[str, Any]]:
    """Two rounds of a half each: 16 channels, 8, 4."""
    for number in range(2):
        start = [f"from_run={run_dirs(work)[-1]}"] if number else []
        done = prune(work, *start)
        assert done.returncode == 0, done.stderr
    return [json.loads((folder / "report.json").read_text()) for folder in run_dirs(work)]


def test_a_round_starts_where_the_last_one_ended(reports: list[dict[str, Any]]) -> None:
    first, second = reports
    assert second["models"]["dense"]["test_loss"] == first["models"]["finetuned"]["test_loss"]
    assert second["models"]["dense"]["macs"] == first["models"]["finetuned"]["macs"]
    assert [report["layers"][0]["kept"] for report in reports] == [8, 4]
    assert second["epochs"] == {"previous": 5, "admm": 2, "finetune": 1, "total": 8}


def test_the_page_stands_against_the_first_dense_network(
    work: Path, reports: list[dict[str, Any]]
) -> None:
    assert reports[1]["models"]["original"] == reports[0]["models"]["dense"]
    page = (run_dirs(work)[1] / "report.md").read_text()
    assert "round 2" in page
    assert "| original | before | after the cut | recalibrated | finetuned |" in page


def test_the_last_network_can_be_loaded(work: Path, reports: list[dict[str, Any]]) -> None:
    network: Any = admm_exp.load(run_dirs(work)[1])
    assert (network.conv1.out_channels, network.conv2.in_channels) == (4, 4)


def test_mlflow_shows_a_round_under_the_first_run_with_cumulative_numbers(
    work: Path, reports: list[dict[str, Any]]
) -> None:
    client = client_at(store_of(work))
    runs = [client.get_run(report["mlflow"]["run_id"]) for report in reports]
    parents = [run.data.tags.get("mlflow.parentRunId") for run in runs]
    assert parents == [None, runs[0].info.run_id]
    assert [run.data.metrics["final/sparsity"] for run in runs] == [0.5, 0.75]
    dense, small = reports[0]["models"]["dense"], reports[1]["models"]["finetuned"]
    ratio = round(small["flops"] / dense["flops"], 6)
    assert runs[1].data.metrics["final/flops_ratio"] == ratio


def test_a_run_that_is_not_there_is_one_sentence_and_leaves_nothing(
    work: Path, reports: list[dict[str, Any]]
) -> None:
    before = run_dirs(work)
    done = prune(work, "from_run=nowhere")
    assert done.returncode == 1
    assert "finished run, with its report.json, got nowhere" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert run_dirs(work) == before


def test_a_trained_network_from_a_file_is_pruned_without_dense_training(
    work: Path, reports: list[dict[str, Any]]
) -> None:
    (weights,) = (work / "outputs" / "cache" / "dense").glob("*/model.safetensors")
    short = [setting for setting in SHORT if not setting.startswith("schedule.dense")]
    done = run_command(
        work, *short, "rho=0.5", "model=small_cnn", "tracking=none", f"pretrained={weights}"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((run_dirs(work)[-1] / "report.json").read_text())
    assert report["models"]["dense"]["test_loss"] == reports[0]["models"]["dense"]["test_loss"]
    assert report["epochs"] == {"admm": 2, "finetune": 1, "total": 3}
