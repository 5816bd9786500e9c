"""MLflow in a process beside the training: what it is told is stored, and it may vanish."""

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from admm_exp.errors import TrackingError
from admm_exp.tracking import process_tracker, store_process
from admm_exp.tracking.journal import Journal, metrics_entry
from admm_exp.tracking.process_tracker import RARELY, ProcessTracker, StoreProcess, command_of
from admm_exp.tracking.recording import OpenedRun
from admm_exp.tracking.run_status import ENDING
from admm_exp.tracking.store_process import LogLines, serve

STUB = """
import json, sys
sys.stdin.readline()
sys.stdin.readline()
print(json.dumps({answer!r}), flush=True)
"""
NOWHERE = "sqlite:////nowhere.db"
OPENED = {"opened": ["r", "1", NOWHERE], "points": [["admm/rho", 1]]}


@pytest.fixture(autouse=True)
def handlers():
    """Let signals end this process again, which the one of the store does not listen to."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def requests_of(folder, *messages, uri=None):
    uri = uri or f"sqlite:///{folder}/mlflow.db"
    root = str(folder / "artifacts")
    asked = {
        "tracking_uri": uri,
        "experiment_name": "exp",
        "run_name": "run",
        "artifact_root": root,
        "journal": str(folder / "metrics.jsonl"),
        "tags": {"kind": "run"},
    }
    told = [{"prepare": [uri, root, str(folder)]}, {"open": asked}, *messages]
    return [json.dumps(message) for message in told]


@contextmanager
def stub(monkeypatch, folder, answer):
    """Start a process that answers once and is gone."""
    code = STUB.format(answer=answer).replace("{", "{{").replace("}", "}}")
    monkeypatch.setattr(process_tracker, "START", code)
    with StoreProcess(NOWHERE, folder) as process:
        yield process


def test_what_the_process_is_told_is_in_the_store(tmp_path):
    file = tmp_path / "report.md"
    file.write_text("fine")
    answers = []
    messages = (
        {"entry": {"params": {"rho": "0.1"}}},
        {"entry": metrics_entry(3, 1_000, {"admm/rho": float("nan"), "dense/lr": 0.5})},
        {"entry": {"tags": {"warning": "careful"}}},
        {"entry": {"dataset": {"name": "d", "digest": "x", "context": "train", "profile": {}}}},
        {"entry": {"artifact": {"path": str(file), "folder": None}}},
        {"flush": True},
        {"finish": ["FINISHED", None]},
    )
    serve(requests_of(tmp_path, *messages), answers.append)
    (run_id, _, uri), last = answers[0]["opened"], answers[-1]
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    assert last == {"finished": True}
    assert (run.info.status, run.data.params["rho"], run.data.tags["warning"]) == (
        *("FINISHED", "0.1"),
        "careful",
    )
    assert run.data.metrics["dense/lr"] == 0.5
    assert [f.path for f in client.list_artifacts(run_id)] == ["report.md"]
    assert run.inputs.dataset_inputs[0].dataset.name == "d"
    assert "delivered" in (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]


def test_what_a_killed_training_had_told_is_in_the_store(tmp_path):
    answers = []
    serve(requests_of(tmp_path, {"entry": metrics_entry(3, 1_000, {"loss": 0.5})}), answers.append)
    (run_id, _, uri) = answers[0]["opened"]
    run = MlflowClient(tracking_uri=uri).get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("RUNNING", {"loss": 0.5})


def test_a_signal_for_the_training_does_not_end_the_process(tmp_path, monkeypatch):
    def refused(**_):
        seen.extend(signal.getsignal(number) for number in ENDING)
        raise TrackingError("seen")

    seen, answers = [], []
    monkeypatch.setattr(store_process, "open_tracker", refused)
    serve(requests_of(tmp_path), answers.append)
    assert answers == [{"refused": "seen"}]
    assert set(seen) == {signal.SIG_IGN}


def test_a_file_is_told_by_a_path_that_holds_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    process = SimpleNamespace(tell=lambda message: told.append(message) or True)
    tracker = ProcessTracker(process, OpenedRun("r", "1", NOWHERE), Journal(tmp_path / "j"), [])
    Path("report.md").touch()
    tracker.log_artifact(Path("report.md"))
    assert told[0]["entry"]["artifact"]["path"] == str(tmp_path / "report.md")


def test_nothing_is_in_the_store_before_a_run_is_opened_and_nothing_is_left(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()

    def requests():
        yield json.dumps(
            {"prepare": [f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path), f"{folder}"]}
        )
        assert [path.name for path in tmp_path.rglob("*.db")] == ["empty.db"]
        with closing(sqlite3.connect(folder / "empty.db")) as made:
            assert made.execute("SELECT count(*) FROM runs").fetchone() == (0,)

    serve(requests(), lambda message: pytest.fail(f"answered {message}"))
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_used_is_refused_in_one_sentence(tmp_path):
    answers = []
    serve(requests_of(tmp_path, uri="sqlite:////proc/none/mlflow.db"), answers.append)
    (answer,) = answers
    assert "/proc/none/mlflow.db cannot be used" in answer["refused"]


def test_a_warning_of_the_process_is_handed_over():
    lines = []
    record = logging.LogRecord("admm_exp.x", logging.WARNING, "", 1, "lost %s", ("it",), None)
    LogLines(lines.append).emit(record)
    assert lines == [{"log": ["admm_exp.x", logging.WARNING, "lost it"]}]


def test_the_process_looks_for_garbage_rarely(tmp_path):
    (tmp_path / "rarely.py").write_text(
        "import gc\ndef main():\n    print(gc.get_threshold()[0])\n"
    )
    told = subprocess.check_output(
        command_of("rarely"), env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True
    )
    assert int(told) == RARELY


def test_a_refusal_reaches_the_user(tmp_path, monkeypatch):
    with (
        stub(monkeypatch, tmp_path, {"refused": "no such store"}) as process,
        pytest.raises(TrackingError, match="no such store"),
    ):
        process.open(NOWHERE, "e", "r", tmp_path, tmp_path / "j", tags={})


def test_a_training_goes_on_without_the_process_and_keeps_its_entries(
    tmp_path, monkeypatch, caplog
):
    with stub(monkeypatch, tmp_path, OPENED) as process:
        tracker = process.open(NOWHERE, "e", "r", tmp_path, tmp_path / "j", tags={})
        process._process.wait()
        tracker.log_metrics({"admm/rho": 0.5}, step=1)
        tracker.log_metrics({"admm/rho": 0.5}, step=2)
        tracker.set_tags({"a": "b"})
        tracker.finish("FAILED", "bad luck")
        tracker.finish("FINISHED")
    kept = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    assert [entry.get("step") for entry in kept] == [2, None, None, None]
    assert kept[1:] == [{"tags": {"a": "b"}}, {"tags": {"error": "bad luck"}}, {"status": "FAILED"}]
    assert ["is gone" in message for message in caplog.messages] == [True, True]


def test_a_run_that_is_refused_leaves_no_process_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(process_tracker, "START", "import sys; sys.stdin.read()")
    with StoreProcess(NOWHERE, tmp_path) as process:
        child, folder = process._process, process._folder.name
    assert child.returncode is not None
    with pytest.raises(FileNotFoundError):
        next(iter(Path(folder).iterdir()))


BEGIN = """
import sys, time
from pathlib import Path
from admm_exp.tracking.process_tracker import StoreProcess
process = StoreProcess(sys.argv[1], Path(sys.argv[2]))
print(process._folder.name, process._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("is_made", [False, True])
def test_a_training_killed_before_its_run_begins_leaves_nothing_in_tmp(tmp_path, is_made):
    command = [sys.executable, "-c", BEGIN, f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path)]
    training = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    folder, number = training.stdout.readline().split()
    if is_made:
        wait_until((Path(folder) / "empty.db").exists)
    training.kill()
    training.communicate()
    wait_until(lambda: has_ended(int(number)))
    assert not Path(folder).exists()


def wait_until(condition):
    while not condition():
        time.sleep(0.05)


def has_ended(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_server_that_answers_byte_by_byte_is_not_waited_for(tmp_path, monkeypatch):
    silent = "import sys\nfor line in sys.stdin:\n    pass\n"
    monkeypatch.setattr(process_tracker, "START", silent)
    monkeypatch.setattr(process_tracker, "OPEN_SECONDS", 0.2)
    where = (tmp_path, tmp_path / "m.jsonl")
    with (
        StoreProcess("http://127.0.0.1:9", tmp_path) as process,
        pytest.raises(TrackingError, match=r"come to no end in 0\.2 s: try later"),
    ):
        process.open("http://127.0.0.1:9", "exp", "run", *where, tags={})
    assert not (tmp_path / "m.jsonl").exists()
