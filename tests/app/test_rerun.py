"""What resume= and repeat= accept, and what they refuse in one sentence."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from admm_exp.app.rerun import RESUME, asked_for, is_finished, keep_settings, stored_settings
from admm_exp.app.run_folder import alone_in
from admm_exp.errors import ConfigError
from admm_exp.experiment.repeat import compare_runs
from admm_exp.sweep.job import Job, job_path, read_job, write_job

NET = "admm_exp.models.lenet.lenet5"
OWN_STORE = OmegaConf.create({"tracking_uri": "sqlite:///outputs/mlflow.db"})


def settings(run_dir: Path, changes: list[str]) -> DictConfig:
    return stored_settings(run_dir, RESUME, changes, OWN_STORE)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    write_config(folder, {"seed": 3, "device": "cpu", "model": {"_target_": NET}})
    return folder


def write_config(folder: Path, settings: object) -> None:
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(settings), folder / ".hydra" / "config.yaml")  # type: ignore[call-overload]


def test_only_the_word_is_taken_from_the_command_line(run_dir: Path) -> None:
    assert asked_for(RESUME, ["rho=1"]) is None
    assert asked_for(RESUME, ["device=cuda", f"resume={run_dir}"]) == (run_dir, ["device=cuda"])


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="resume must name the folder of a run"):
        asked_for(RESUME, [f"resume={tmp_path / name}"])


def test_device_and_store_may_change(run_dir: Path) -> None:
    changed = settings(run_dir, ["device=cuda:1", "tracking_uri=sqlite:///x.db"])
    assert (changed.seed, changed.device) == (3, "cuda:1")


@pytest.mark.parametrize("name", ["${odd}", "run"])
def test_no_stored_file_keeps_a_password(run_dir: Path, name: str) -> None:
    uri = "http://ann:typed@host:80"
    for file in ("config.yaml", "hydra.yaml", "overrides.yaml"):
        (run_dir / ".hydra" / file).write_text(f"- a=1\n- 'tracking_uri={uri}'\n")
    keep_settings({"tracking_uri": uri, "name": name}, run_dir)
    texts = [path.read_text() for path in sorted((run_dir / ".hydra").iterdir())]
    assert len(texts) == 3
    assert not any("typed" in text for text in texts)
    assert all("http://ann:***@host:80" in text for text in texts)


@pytest.mark.parametrize("change", ["seed=4", "rho", "+rho=1", "model._target_=os.system", "-m"])
def test_other_changes_are_refused(run_dir: Path, change: str) -> None:
    allowed = "tracking_uri, device, trainer.devices beside it"
    with pytest.raises(ConfigError, match=f"{allowed}, got {re.escape(change)}$"):
        settings(run_dir, [change])


@pytest.mark.parametrize(
    "part",
    [
        {"model": {"_target_": "os.system", "command": "touch owned"}},
        {"model": {"_target_": NET, "a": [{"_target_": "os.system"}]}},
        {"model": {"_target_": "admm_expose.run"}},
    ],
)
def test_a_run_folder_cannot_name_code_to_run(run_dir: Path, part: dict[str, object]) -> None:
    write_config(run_dir, part)
    with pytest.raises(ConfigError, match="names code that is not this package's: confirm it with"):
        settings(run_dir, [])


def test_own_code_is_run_once_it_is_confirmed(run_dir: Path) -> None:
    write_config(run_dir, {"model": {"_target_": "mynets.net"}})
    confirmed = settings(run_dir, ["model._target_=mynets.net"])
    assert confirmed.model["_target_"] == "mynets.net"


@pytest.mark.parametrize("text", ["a: [", "- a list", "!!python/object/apply:os.system [ls]"])
def test_damaged_settings_are_refused(run_dir: Path, text: str) -> None:
    (run_dir / ".hydra" / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config.yaml is damaged"):
        settings(run_dir, [])


def test_a_run_is_finished_when_its_tracker_knows(run_dir: Path) -> None:
    assert not is_finished(run_dir)
    (run_dir / "report.json").write_text('{"status": "finished"}')
    assert is_finished(run_dir)
    (run_dir / "metrics.jsonl").write_text("{}\n")
    assert not is_finished(run_dir)
    (run_dir / "metrics.jsonl").write_text('{"status": "FAILED"}\n{"status": "KILLED"}\n')
    assert not is_finished(run_dir)
    (run_dir / "metrics.jsonl").write_text('{"status": "FINISHED"}\n')
    assert is_finished(run_dir)


def test_one_process_at_a_time(run_dir: Path) -> None:
    with (
        alone_in(run_dir),
        pytest.raises(ConfigError, match="another process works on"),
        alone_in(run_dir),
    ):
        raise AssertionError("two at once")


def test_a_resumed_job_tells_its_sweep(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = job_path(run_dir.parent, 0)
    write_job(path, Job("rho=1", "abc", status="killed", run_dir=str(run_dir)))
    monkeypatch.setattr("admm_exp.app.run._prepare", lambda *_: None)
    monkeypatch.setattr("admm_exp.app.run._execute", lambda *_: 0.9)
    module = import_module("admm_exp.app.main")  # the package's own `main` is the function
    module._resume(run_dir, [])
    assert read_job(path).status == "finished"


def finished(folder: Path, weight: float = 1.0, accuracy: float = 0.9, commit: str = "a") -> Path:
    import torch

    from admm_exp.training.checkpoint import save_tensors

    report = {
        "status": "finished",
        "models": {"dense": {"val_accuracy": accuracy, "latency_ms": {"1": id(folder)}}},
        "surgery": {},
        "admm": {"iterations": []},
        "layers": [],
        "history": [{"epoch": 1, "seconds": id(folder)}],
        "environment": {"commit": commit},
    }
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    save_tensors(folder / "model.safetensors", {"w": torch.tensor([weight])})
    return folder


def test_equal_runs_are_identical_whatever_their_times(tmp_path: Path) -> None:
    first, second = finished(tmp_path / "a"), finished(tmp_path / "b")
    assert compare_runs(first, second) == [f"{second} is identical to {first}"]


def test_differences_and_other_circumstances_are_named(tmp_path: Path) -> None:
    first = finished(tmp_path / "a")
    second = finished(tmp_path / "b", weight=1.5, accuracy=0.8, commit="b")
    verdict, *lines = compare_runs(first, second)
    assert verdict == f"{second} differs from {first}"
    assert lines == [
        "weight w: differs by up to 0.5",
        "models.dense.val_accuracy: 0.9 and 0.8",
        "warning: not the same then and now: commit: a and b",
    ]
