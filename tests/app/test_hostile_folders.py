"""Run folders that someone else made: nothing in them is executed, followed or sent anywhere."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.hostile import HOSTILE, SYSTEM, Hostile, contents, genuine, place, write_run
from support.hostile_more import MORE_HOSTILE, NOWHERE

from admm_exp.app.main import main
from admm_exp.app.report_command import main as report
from admm_exp.app.sync_command import main as sync
from admm_exp.app.ui_command import main as ui
from admm_exp.experiment.repeat import RESULTS
from admm_exp.tracking import server
from admm_exp.training.checkpoint import save_tensors

__all__ = ["place"]  # a fixture


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that someone else owns."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)
        yield server


def told(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run the command and return the sentence that it ends with."""
    monkeypatch.setattr(sys, "argv", ["admm-exp", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return str(ended.value.code)


def assert_refused(sentence: str) -> None:
    assert sentence.startswith("error: "), sentence
    assert sentence.isprintable(), sentence


ALL = HOSTILE | MORE_HOSTILE
FINISHED = {"status": "finished", "environment": {}}


@pytest.mark.parametrize("word", ["resume", "repeat"])
@pytest.mark.parametrize("change", ALL.values(), ids=ALL.keys())
def test_a_hostile_folder_is_refused_in_a_sentence_and_does_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, change: Hostile, word: str
) -> None:
    outside, run = place.parent / "outside", place / "run"
    run.mkdir()
    if word == "repeat":
        (run / "report.json").write_text(json.dumps(dict.fromkeys(RESULTS) | FINISHED))
        save_tensors(run / "model.safetensors", {})
    settings = genuine() | {"device": NOWHERE}
    said = change(settings, run, outside)
    write_run(run, settings, said)
    before = contents(outside)
    assert_refused(told(monkeypatch, f"{word}=run"))
    assert contents(outside) == before
    assert sorted(os.listdir(outside)) == ["precious.txt", "weights"]
    assert not {"evil", "antigravity", "admm_exp_models"} & sys.modules.keys()
    assert not (place / "outputs").exists()


@pytest.mark.parametrize("word", ["resume", "repeat"])
def test_an_address_that_a_folder_names_is_never_called(
    place: Path, monkeypatch: pytest.MonkeyPatch, listener: socket.socket, word: str
) -> None:
    settings = genuine() | {"tracking_uri": f"http://127.0.0.1:{listener.getsockname()[1]}"}
    write_run(place / "run", settings)
    assert "your settings do not name" in told(monkeypatch, f"{word}=run")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_code_beside_the_run_is_not_run_although_python_would_find_it_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place / "run"
    write_run(run, genuine() | {"device": "cuda:99"})
    (run / "onnx.py").write_text((place / "evil.py").read_text())
    monkeypatch.chdir(run)
    sys.path.insert(0, "")
    assert_refused(told(monkeypatch, "resume=."))
    assert not any(Path(p or ".").resolve() == run for p in sys.path)


def test_a_name_that_stands_at_two_places_is_confirmed_for_the_target_that_was_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = genuine()
    settings["model"] |= {"a.b": SYSTEM, "a": {"b": {"_target_": "evil.net"}}}
    write_run(place / "run", settings)
    sentence = told(monkeypatch, "resume=run", "model.a.b._target_=evil.net")
    assert "confirm it with model.a.b._target_=os.system" in sentence


def test_a_genuine_folder_is_not_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(place / "run", genuine() | {"device": "cuda:99"})
    assert "cuda:99" in told(monkeypatch, "resume=run")  # read, checked, and built up to there


@pytest.mark.parametrize("command", [report, sync, ui])
def test_commands_that_only_read_run_nothing_that_lies_beside_what_they_read(
    place: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[], None]
) -> None:
    monkeypatch.setattr(sys, "argv", ["admm-exp-it", "tracking_uri=sqlite:///none.db"])
    with suppress(SystemExit):
        command()
    assert str(place) not in sys.path


def test_the_server_of_the_ui_runs_nothing_that_lies_in_the_current_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "mlflow.py").write_text((place / "evil.py").read_text())
    monkeypatch.setattr(server, "START_SECONDS", 0.0)
    seen = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: seen.append(env))
    with pytest.raises(AttributeError), server.ui_server("sqlite:///x.db", 5000):
        raise AssertionError("there is no process")
    assert seen[0]["PYTHONSAFEPATH"] == "1"


def test_a_result_that_cannot_be_compared_is_told_before_it_is_computed_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(place / "run", genuine())
    (place / "run" / "report.json").write_text('{"status": "finished"}')
    assert "report.json is damaged ('models' is missing)" in told(monkeypatch, "repeat=run")
    assert not (place / "outputs").exists()
