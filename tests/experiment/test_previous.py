import json
from types import SimpleNamespace

import pytest

from admm_exp.errors import ConfigError
from admm_exp.experiment.previous import PreviousRun, read_previous

DATA = SimpleNamespace(name="digits", fingerprint="abc")
REPORT = {
    "status": "finished",
    "dataset": {"name": "digits", "fingerprint": "abc"},
    "config": {"dataset": {"name": "digits"}, "model": {"name": "resnet8"}},
    "models": {"dense": {"macs": 100}, "finetuned": {"macs": 50}},
    "layers": [{"name": "conv1", "channels": 16}, {"name": "conv2", "channels": 32}],
    "mlflow": {"run_id": "first"},
    "rounds": None,
}


def previous_of(**changes):
    return PreviousRun(None, REPORT | changes, None)


def read(folder, model="resnet8", **changes):
    (folder / "report.json").write_text(json.dumps(REPORT | changes))
    return read_previous(str(folder), DATA, model, None)


def test_a_run_on_the_same_data_and_model_is_read(tmp_path):
    assert read(tmp_path).report == REPORT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "running"}, "folder of a finished run, got .*, which is running$"),
        ({"dataset": {"name": "digits", "fingerprint": "x"}}, "must be a run on the same data"),
        ({"model": "resnet20"}, "holds a resnet8, not a resnet20"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, **changes)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_damaged_report_is_refused(tmp_path, content):
    if content:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ConfigError, match=r"finished run, with its report\.json, got "):
        read_previous(str(tmp_path), DATA, "resnet8", None)


def test_second_round_remembers_the_first():
    rounds = previous_of().rounds()
    assert (rounds["round"], rounds["from_run_id"], rounds["first_run_id"]) == (2, "first", "first")
    assert rounds["original_channels"] == {"conv1": 16, "conv2": 32}
    assert previous_of().original() == {"macs": 100}


def test_third_round_counts_from_the_first_one_still():
    layers = [{"name": "conv1", "channels": 8}, {"name": "conv2", "channels": 16}]
    models = {"original": {"macs": 100}, "dense": {"macs": 50}}
    run = {"run_id": "second"}
    second = previous_of(rounds=previous_of().rounds(), layers=layers, models=models, mlflow=run)
    rounds = second.rounds()
    assert (rounds["round"], rounds["from_run_id"], rounds["first_run_id"]) == (
        3,
        "second",
        "first",
    )
    assert rounds["original_channels"] == {"conv1": 16, "conv2": 32}
    assert second.original() == {"macs": 100}
