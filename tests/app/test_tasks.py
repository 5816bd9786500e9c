"""Networks that are no classifiers, from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SHORT, run_command

PATH = str(Path(__file__).parents[1])


def report_of(folder: Path, *overrides: str) -> dict[str, Any]:
    done = run_command(folder, *overrides, *SHORT, "tracking=none", env={"PYTHONPATH": PATH})
    assert done.returncode == 0, done.stderr
    (written,) = (folder / "outputs" / "runs").glob("*/report.json")
    report: dict[str, Any] = json.loads(written.read_text())
    return report


REGRESSION = """
import torch
from torch import nn
from admm_exp.data.iterable import iterable_dataset

def numbers():
    x = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    batches = [(rows, rows.sum(1)) for rows in x.split(20)]
    return iterable_dataset(name="numbers", **dict.fromkeys(("train", "val", "test"), batches))

def net(width=8):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))

def train(model, optimizer, epoch, batches):
    for x, y in batches:
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()

def score(model, batches):
    x, y = (torch.cat(part) for part in zip(*batches))
    with torch.no_grad():
        left = (model(x) - y).square().mean() / y.var()
    return float((1 - left).clamp(0, 1))
"""
FUNCTIONS = ("+train_fn._target_=regression.train", "+validate_fn._target_=regression.score")


def parts(folder: Path) -> None:
    (folder / "conf" / "dataset").mkdir(parents=True)
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "regression.py").write_text(REGRESSION)
    (folder / "conf" / "dataset" / "numbers.yaml").write_text(
        "_target_: regression.numbers\nname: numbers\n"
    )
    (folder / "conf" / "model" / "net.yaml").write_text("_target_: regression.net\nname: net\n")


def test_a_regression_is_pruned_by_its_own_loss_and_score(tmp_path: Path) -> None:
    parts(tmp_path)
    chosen = ("--config-dir", "conf", "dataset=numbers", "model=net", "schedule.dense.lr=0.01")
    report = report_of(tmp_path, *chosen, *FUNCTIONS)
    assert {row["name"]: row["kept"] for row in report["layers"]} == {"0": 4}
    assert 0.0 <= report["models"]["finetuned"]["test_accuracy"] <= 1.0


def test_data_without_classes_asks_for_functions(tmp_path: Path) -> None:
    parts(tmp_path)
    chosen = ("--config-dir", "conf", "dataset=numbers", "model=net", "tracking=none")
    done = run_command(tmp_path, *chosen)
    assert done.returncode == 1
    assert "validate_fn must name a function of yours: numbers is no set" in done.stderr
    assert not (tmp_path / "outputs" / "runs").exists()


def detect(folder: Path, network: str) -> dict[str, Any]:
    """Train, prune and finetune a detector by its own losses, on images with boxes."""
    for group, target in (("dataset", "boxes"), ("model", network)):
        (folder / "conf" / group).mkdir(parents=True)
        text = f"_target_: support.detector.{target}\nname: {target}\n"
        (folder / "conf" / group / f"{target}.yaml").write_text(text)
    functions = [
        f"+{name}._target_=support.detector.{function}"
        for name, function in (("train_fn", "train"), ("validate_fn", "score"))
    ]
    rates = ("schedule.dense.lr=0.01", "schedule.admm_lr=0.001", "schedule.finetune.lr=0.001")
    chosen = ("--config-dir", "conf", "dataset=boxes", f"model={network}")
    return report_of(folder, *chosen, *functions, *rates)


@pytest.mark.slow
def test_a_detector_trains_with_its_targets(tmp_path: Path) -> None:
    report = detect(tmp_path, "detector")
    rows = {row["name"]: row["kept"] for row in report["layers"]}
    assert rows["backbone.first"] == 4
    assert rows["backbone.second"] == 6
    assert report["surgery"]["max_abs_difference"] < 1e-3


@pytest.mark.slow
def test_a_whole_detector_of_torchvision_trains_with_its_targets(tmp_path: Path) -> None:
    report = detect(tmp_path, "whole_detector")
    rows = {row["name"]: (row["channels"], row["kept"]) for row in report["layers"]}
    assert rows["backbone.body.0.0"] == (16, 8)
    assert rows["backbone.fpn.inner_blocks.0.0"] == (256, 128)
    assert rows["roi_heads.box_head.fc6"] == (1024, 512)
    dense, small = (report["models"][name] for name in ("dense", "finetuned"))
    assert small["params"] < 0.3 * dense["params"]
    assert 0.0 <= small["test_accuracy"] <= 1.0
