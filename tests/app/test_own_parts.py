"""The example of parts of one's own runs as its README says."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import SHORT, run_command

from admm_exp.app.instantiate import build_function
from admm_exp.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "notebooks" / "own_parts"
COMMANDS = re.findall(r"^admm-exp (.*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)


def report_of(folder: Path, command: str) -> dict[str, Any]:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("outputs"), dirs_exist_ok=True)
    done = run_command(folder, *shlex.split(command), *SHORT, "tracking=none")
    assert done.returncode == 0, done.stderr
    (written,) = (folder / "outputs" / "runs").glob("*/report.json")
    report: dict[str, Any] = json.loads(written.read_text())
    return report


def test_a_loss_and_a_metric_of_ones_own_decide(tmp_path: Path) -> None:
    report = report_of(tmp_path, next(c for c in COMMANDS if "marks" in c))
    models = report["models"]
    assert models["dense"]["test_loss"] is None  # F1 alone, cross entropy was never computed
    assert models["dense"]["val_accuracy"] > 0.6
    assert {row["name"]: row["kept"] for row in report["layers"]} == {"0": 8, "3": 8}


def test_a_segmentation_is_scored_by_its_own_function(tmp_path: Path) -> None:
    report = report_of(tmp_path, next(c for c in COMMANDS if "cells" in c))
    models = report["models"]
    assert models["finetuned"]["val_accuracy"] > 0.3  # a constant guess overlaps by 0.2
    assert models["finetuned"]["macs"] < 0.4 * models["dense"]["macs"]
    assert {row["name"] for row in report["layers"]} >= {"down.0.0", "bottom.0", "rise.0", "up.1.3"}


@pytest.mark.slow
def test_signals_of_a_stream_are_learned_by_an_lstm(tmp_path: Path) -> None:
    report = report_of(tmp_path, next(c for c in COMMANDS if "signals" in c))
    assert report["dataset"]["name"] == "signals"
    assert {row["name"]: row["kept"] for row in report["layers"]} == {"conv": 12, "lstm": 12}


def train(model: Any, optimizer: Any, epoch: int, batches: Any, power: float) -> Any:
    return (model, optimizer, epoch, batches, power)


class Validate:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, model: Any, batches: Any) -> float:
        return self.scale


def test_a_function_gets_its_batches_and_a_class_is_built_once() -> None:
    part = {"_target_": f"{__name__}.train", "power": 2.0}
    assert build_function("train_fn", part, [1, 2])("m", "o", 3) == ("m", "o", 3, [1, 2], 2.0)
    scored = build_function("validate_fn", {"_target_": f"{__name__}.Validate", "scale": 0.5})
    assert scored("m", []) == 0.5
    assert build_function("train_fn", {}, []) is None


def validate_alone(model: Any) -> float:
    return 0.5


class Unready:
    def __call__(self, model: Any) -> float:
        return 0.5


@pytest.mark.parametrize(
    ("name", "target", "called"),
    [
        ("validate_fn", "validate_alone", "(model, batches)"),
        ("validate_fn", "Unready", "(model, batches)"),
        ("train_fn", "validate_alone", "(model, optimizer, epoch)"),
    ],
)
def test_a_function_that_does_not_take_what_it_is_given_is_one_sentence(
    name: str, target: str, called: str
) -> None:
    sentence = f"{name} is called with {called}, which {__name__}.{target} does not take: too many"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        build_function(name, {"_target_": f"{__name__}.{target}"})


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"power": 1}, "train_fn._target_ is missing"),
        ({"_target_": "nowhere.train"}, "train_fn cannot be built by nowhere.train: No module"),
        ({"_target_": f"{__name__}.train", "powr": 1}, "did you mean 'train_fn.power'"),
    ],
)
def test_a_function_that_cannot_be_built_is_one_sentence(part: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        build_function("train_fn", part, [])
