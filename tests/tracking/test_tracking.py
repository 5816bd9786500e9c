import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support.trackers import client_of, curve, open_in, stored

from admm_exp.errors import TrackingError
from admm_exp.tracking import store
from admm_exp.tracking.address import _host_and_port, absolute_uri, without_password
from admm_exp.tracking.journal import Journal
from admm_exp.tracking.limits import MAX_TAG_LENGTH, flatten, legal_key
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.recording import OpenedRun, RecordingTracker
from admm_exp.tracking.run_status import Terminated, sigterm_raises, tracked
from admm_exp.tracking.store import ANSWER_SECONDS
from admm_exp.tracking.tracker import NullTracker

OPEN = """
import sys
from pathlib import Path
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.recording import OpenedRun, RecordingTracker
from admm_exp.tracking.run_status import tracked

def open_here(folder, **more):
    folder = Path(folder)
    return open_tracker(f"sqlite:///{folder}/mlflow.db", "exp", "run", folder / "artifacts",
                        folder / "metrics.jsonl", tags={}, **more)
"""
UNTIL_SIGNAL = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
with tracked(open_here(sys.argv[1])) as tracker:
    tracker.log_metrics({"admm/rho": 1.0}, 1)
    print(tracker.run_id, flush=True)
    time.sleep(60)
"""


def start(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture
def flaky(folder, monkeypatch):
    """Return a tracker and a function that makes its next `count` metric calls fail."""
    tracker = open_in(folder)
    send, state = tracker._client.log_batch, {"count": 0, "calls": 0}

    def log_batch(*arguments, **options):
        state["calls"] += 1
        if state["count"] > 0:
            state["count"] -= 1
            raise ConnectionError("server is down")
        return send(*arguments, **options)

    monkeypatch.setattr(tracker._client, "log_batch", log_batch)
    return tracker, state


@pytest.mark.long
def test_two_processes_open_a_fresh_store_at_once(tmp_path):
    code = OPEN + "open_here(sys.argv[1]).finish('FINISHED')"
    racers = [start(code, tmp_path) for _ in range(2)]
    results = [(racer.communicate(timeout=180)[1], racer.returncode) for racer in racers]
    assert results == [("", 0), ("", 0)]
    tracker = open_in(tmp_path)
    runs = client_of(tracker).search_runs([tracker.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "RUNNING"]


def test_a_fresh_store_writes_ahead_and_leaves_no_litter(tmp_path, tables, monkeypatch):
    monkeypatch.setattr(store, "_build_tables", tables)
    tracker = open_in(tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    tracker.finish("FINISHED")
    names = {path.name.removesuffix("-wal").removesuffix("-shm") for path in tmp_path.iterdir()}
    assert names == {"mlflow.db", "mlflow.db.lock", "run"}


def test_the_end_of_the_body_is_finished(folder):
    with tracked(open_in(folder)) as tracker:
        tracker.log_metrics({"admm/rho": 0.5}, 1)
    assert stored(tracker).info.status == "FINISHED"
    assert curve(tracker, "admm/rho") == [(1, 0.5)]


@pytest.mark.parametrize("error", [ValueError("no such layer"), SystemExit(2)])
def test_an_exception_is_failed_with_its_text(folder, error):
    tracker = open_in(folder)
    tracker.log_metrics({"admm/rho": 0.5}, 1)
    with pytest.raises(type(error)), tracked(tracker):
        raise error
    assert stored(tracker).info.status == "FAILED"
    assert stored(tracker).data.tags["error"] == f"{type(error).__name__}: {error}"
    assert curve(tracker, "admm/rho") == [(1, 0.5)]


class Ended(NullTracker):
    """A tracker that remembers what its run ended with."""

    def finish(self, status, error=None):
        self.end = (status, error)


def test_the_text_of_an_exception_is_told_without_a_password():
    tracker = Ended()
    with pytest.raises(OSError, match="no answer"), tracked(tracker):
        raise OSError("no answer from http://me:secret@host/")
    assert tracker.end[0] == "FAILED"
    assert "no answer from http://" in tracker.end[1]
    assert "secret" not in tracker.end[1]


class Taken(RecordingTracker):
    """A tracker whose store is a list."""

    def __init__(self, path):
        super().__init__(OpenedRun("run", "0", "somewhere"), Journal(path))
        self.entries = []

    def take(self, entry):
        self.entries.append(entry)


def test_a_point_that_was_told_is_not_told_again(tmp_path):
    tracker = Taken(tmp_path / "metrics.jsonl")
    for value in (0.5, 0.7):
        tracker.log_metrics({"loss": value}, 1)
    assert [entry["metrics"] for entry in tracker.entries] == [{"loss": 0.5}]


def test_a_digest_has_at_most_36_characters(tmp_path):
    tracker = Taken(tmp_path / "metrics.jsonl")
    tracker.log_dataset("digits", "a" * 36, "train", {})
    assert tracker.entries[0]["dataset"]["digest"] == "a" * 36
    with pytest.raises(ValueError, match="at most 36 characters, got 37"):
        tracker.log_dataset("digits", "a" * 37, "train", {})


def test_exit_code_zero_is_finished(folder):
    tracker = open_in(folder)
    with pytest.raises(SystemExit), tracked(tracker):
        sys.exit(0)
    assert stored(tracker).info.status == "FINISHED"


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_killed(folder, number):
    process = start(OPEN + UNTIL_SIGNAL, folder)
    run_id = process.stdout.readline().strip()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    tracker = open_in(folder)
    assert client_of(tracker).get_run(run_id).info.status == "KILLED"
    points = client_of(tracker).get_metric_history(run_id, "admm/rho")
    assert [point.value for point in points] == [1.0]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_closed_terminal_is_no_matter_under_nohup(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with tracked(NullTracker()):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_the_previous_sighup_handler_returns():
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(Terminated), tracked(NullTracker()):
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == before


class Interrupted(NullTracker):
    """A tracker at whose end Ctrl-C is typed again."""

    def __init__(self, times):
        self.times, self.ended = times, []

    def finish(self, status, error=None):
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)
        self.ended.append(status)


@pytest.fixture
def in_foreground():
    """Obey Ctrl-C, which a shell lets its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_foreground")
def test_a_second_ctrl_c_does_not_cut_off_the_status(caplog):
    before, tracker = signal.getsignal(signal.SIGINT), Interrupted(1)
    with pytest.raises(KeyboardInterrupt), tracked(tracker):
        raise KeyboardInterrupt
    assert tracker.ended == ["KILLED"]
    assert "Ctrl-C once more" in caplog.text
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.usefixtures("in_foreground")
def test_a_third_ctrl_c_ends_a_run_that_cannot_be_ended(caplog):
    tracker = Interrupted(2)
    with pytest.raises(KeyboardInterrupt), tracked(tracker):
        raise KeyboardInterrupt
    assert tracker.ended == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_an_hour_is_not_waited_for(tmp_path, status):
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    start = time.monotonic()
    try:
        with pytest.raises(TrackingError, match=f"answers {status}, busy .* longer than 30 s"):
            open_tracker(uri, "exp", "run", tmp_path, tmp_path / "m.jsonl", tags={})
    finally:
        server.shutdown()
        server.server_close()
    assert time.monotonic() - start < ANSWER_SECONDS
    assert not (tmp_path / "m.jsonl").exists()


def test_the_handler_that_a_program_had_is_there_again():
    def own(*_):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, own)
    try:
        with sigterm_raises():
            assert signal.getsignal(signal.SIGTERM) is not own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_previous_sigterm_handler_returns():
    before = signal.getsignal(signal.SIGTERM)
    with tracked(NullTracker()):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_tracked_works_outside_the_main_thread():
    seen = []

    def body():
        with tracked(NullTracker()) as tracker:
            seen.append(tracker)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert len(seen) == 1


def test_finish_counts_once(folder):
    tracker = open_in(folder)
    tracker.finish("FAILED", "first")
    tracker.finish("FINISHED")
    assert stored(tracker).info.status == "FAILED"


def test_nested_settings_become_dotted_texts():
    settings = {"rho": 1e-3, "model": {"name": "net", "depth": None, "extra": {}}}
    expected = {"rho": "0.001", "model.name": "net", "model.depth": "null", "model.extra": "{}"}
    assert flatten(settings) == expected


@pytest.mark.parametrize(
    ("key", "legal"),
    [("a[0]=%@,b", "a_0_____b"), ("//a//b", "a/b"), ("..", "_"), ("x" * 300, "x" * 250)],
)
def test_forbidden_names_are_replaced(folder, key, legal):
    assert legal_key(key) == legal
    tracker = open_in(folder)
    tracker.log_params({key: 1})
    assert stored(tracker).data.params == {legal: "1"}


def test_a_setting_that_was_told_is_not_told_again(folder, caplog):
    tracker = open_in(folder)
    for value in (0.1, 0.2):
        tracker.log_params({"rho": value})
    tracker.finish("FINISHED")
    assert stored(tracker).data.params == {"rho": "0.1"}
    assert not caplog.records


def test_a_tag_is_cut_to_what_the_store_takes(folder, caplog):
    tracker = open_in(folder)
    tracker.set_tags({"group": "x" * 9000})
    tracker.finish("FINISHED")
    assert stored(tracker).data.tags["group"] == "x" * MAX_TAG_LENGTH
    assert not caplog.records


def test_300_params_arrive(folder):
    tracker = open_in(folder)
    params = {f"layer{index}": index for index in range(300)}
    tracker.log_params(params)
    assert stored(tracker).data.params == {key: str(value) for key, value in params.items()}


def test_long_params_are_cut_silently(folder, caplog):
    tracker = open_in(folder)
    tracker.log_params({"layers": "x" * 7000})
    assert stored(tracker).data.params == {"layers": "x" * 6000}
    assert not caplog.records


def test_curves_arrive_in_order_with_their_steps(folder):
    tracker = open_in(folder)
    values = [(step, 1.0 / (1 + step)) for step in range(2345)]
    for step, value in values:
        tracker.log_metrics({"admm/primal_residual": value}, step)
    tracker.finish("FINISHED")
    assert curve(tracker, "admm/primal_residual") == values


def test_metrics_wait_for_the_flush(flaky):
    tracker, state = flaky
    for step in range(999):
        tracker.log_metrics({"loss": 1.0}, step)
    assert state["calls"] == 0
    tracker.log_metrics({"loss": 1.0}, 999)
    assert state["calls"] == 1


def test_metrics_are_sent_after_the_flush_time(flaky):
    tracker, state = flaky
    tracker._sender._next_try = time.monotonic()
    tracker.log_metrics({"loss": 1.0}, 1)
    assert state["calls"] == 1


def test_the_journal_holds_every_metric(folder):
    tracker = open_in(folder)
    tracker.log_metrics({"a": float("nan"), "b": 2.0}, 1)
    tracker.log_metrics({"a": float("inf")}, 2)
    text = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    first, tags, *lines = [json.loads(line) for line in text.splitlines()]
    assert tags["tags"]["kind"] == "run"
    assert first["run"] == {"tracking_uri": tracker.tracking_uri, "run_id": tracker.run_id}
    assert [(line["step"], line["metrics"]) for line in lines] == [
        (1, {"a": "nan", "b": 2.0}),
        (2, {"a": "inf"}),
    ]
    assert abs(lines[0]["timestamp_ms"] / 1000 - time.time()) < 60


def test_a_server_that_fails_for_a_while_loses_nothing(flaky, caplog):
    tracker, state = flaky
    state["count"] = 3
    for step in range(6):
        tracker.log_metrics({"loss": float(step)}, step)
        tracker.flush()
    tracker.finish("FINISHED")
    assert curve(tracker, "loss") == [(step, float(step)) for step in range(6)]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "mlflow.db" in warnings[0]
    assert "metrics.jsonl" in warnings[0]


def test_an_answer_that_got_lost_stores_no_metric_twice(folder, monkeypatch):
    tracker = open_in(folder)
    send = tracker._client.log_batch

    def deliver_and_fail(*arguments, **options):
        send(*arguments, **options)
        monkeypatch.undo()
        raise TimeoutError("no answer")

    monkeypatch.setattr(tracker._client, "log_batch", deliver_and_fail)
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.flush()
    tracker.flush()
    assert curve(tracker, "loss") == [(1, 1.0)]


def test_params_and_tags_survive_a_failing_server(flaky):
    tracker, state = flaky
    state["count"] = 1
    tracker.log_params({"rho": 0.1})
    tracker.set_tags({"group": "g"})
    tracker.finish("FINISHED")
    assert stored(tracker).data.params == {"rho": "0.1"}
    assert stored(tracker).data.tags["group"] == "g"


def test_tries_are_spaced_while_the_server_fails(flaky):
    tracker, state = flaky
    state["count"] = 10**6
    for index in range(5):
        tracker.set_tags({f"tag{index}": "x"})
    assert state["calls"] == 1


def test_finish_with_a_dead_server_warns_and_returns(flaky, caplog):
    tracker, state = flaky
    state["count"] = 10**6
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.flush()
    tracker.finish("FINISHED")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert "delivered" not in tracker.journal.path.read_text(encoding="utf-8")


def test_a_lost_artifact_does_not_hold_back_the_status(folder, flaky):
    tracker, _ = flaky
    path = folder / "report.md"
    path.write_text("x", encoding="utf-8")
    tracker._sender._failure = ConnectionError()
    tracker.log_artifact(path)
    path.unlink()
    tracker.finish("FINISHED")
    assert stored(tracker).info.status == "FINISHED"


def test_an_unreachable_server_is_named_at_once_without_mlflow(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
    code = f"""
import sys, time
from pathlib import Path
from admm_exp.errors import TrackingError
from admm_exp.tracking.mlflow_tracker import open_tracker
start = time.monotonic()
try:
    open_tracker({uri!r}, "exp", "run", Path("a"), Path("run/m.jsonl"), tags={{}})
except TrackingError as error:
    print(error)
assert time.monotonic() - start < 10
assert "mlflow" not in sys.modules
"""
    output, errors = start(code, cwd=tmp_path).communicate(timeout=60)
    assert errors == ""
    assert uri in output
    assert "tracking=none" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    ["", "outputs/mlflow.db", "sqlite://", "sqlite:///", "http://", "http://host:port", "://"],
)
def test_a_malformed_uri_is_named(uri):
    with pytest.raises(TrackingError, match="tracking_uri must look like") as caught:
        absolute_uri(uri)
    assert repr(uri) in str(caught.value)


def test_a_relative_store_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = absolute_uri("sqlite:///outputs/mlflow.db?timeout=30")
    assert uri == f"sqlite:///{tmp_path}/outputs/mlflow.db?timeout=30"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("postgresql://me:secret@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("http://me:sec@ret@db:5432/x@y", "http://me:***@db:5432/x@y"),
        ("http://db:5432/x@y", "http://db:5432/x@y"),
        (
            "- tracking_uri=http://a:b@c/\n- x=http://d:e@f",
            "- tracking_uri=http://a:***@c/\n- x=http://d:***@f",
        ),
        ("mysql://db/x?user=me&password=secret&z=1", "mysql://db/x?user=me&password=***&z=1"),
        ("http://db:80 and mail me@x", "http://db:80 and mail me@x"),
    ],
)
def test_messages_hide_the_password(typed, shown):
    assert without_password(typed) == shown


def test_a_host_that_needs_no_proxy_is_asked_itself(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://203.0.113.1:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert _host_and_port("http://127.0.0.1:5000") == ("127.0.0.1", 5000)
    assert _host_and_port("http://198.51.100.1:5000") == ("203.0.113.1", 3128)


def test_an_address_that_is_none_is_refused_without_its_password(tmp_path):
    with pytest.raises(TrackingError) as refused:
        absolute_uri("http://ann:se/cr@et@host:80")
    assert "cr" not in str(refused.value).partition("got")[2]
    assert "***@host:80" in str(refused.value)


def test_an_unknown_scheme_is_one_sentence(tmp_path):
    arguments = ("sqqlite://x/y", "exp", "run", tmp_path, tmp_path / "m.jsonl")
    with pytest.raises(TrackingError, match="tracking_uri sqqlite://x/y cannot be used") as caught:
        open_tracker(*arguments, tags={})
    assert "\n" not in str(caught.value)


def test_a_database_of_another_version_names_the_upgrade(folder):
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    connection.close()
    with pytest.raises(TrackingError, match=r"mlflow db upgrade sqlite:///.*mlflow\.db"):
        open_in(folder)


def test_a_store_that_the_disk_has_no_room_for_leaves_nothing(tmp_path, monkeypatch):
    def half(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(store.shutil, "copyfile", half)
    database = tmp_path / "mlflow.db"
    with pytest.raises(OSError, match="No space left on device"):
        store._initialise(database, tmp_path, empty=tmp_path / "empty.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_one_sentence(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database " * 100, encoding="utf-8")
    with pytest.raises(TrackingError, match="is a file of another kind and no store") as caught:
        open_in(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_deleted_experiment_names_the_mend(folder):
    tracker = open_in(folder)
    client_of(tracker).delete_experiment(tracker.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore --experiment-id 1"):
        open_in(folder)


def test_a_run_carries_its_tags_and_parent(folder):
    parent = open_in(folder, tags={"kind": "sweep"})
    child = open_in(folder, parent_run_id=parent.run_id)
    tags = stored(child).data.tags
    assert tags["mlflow.parentRunId"] == parent.run_id
    assert tags["mlflow.source.name"] == "admm-exp"
    assert (tags["kind"], tags["pid"], tags["host"]) == (
        "run",
        str(os.getpid()),
        socket.gethostname(),
    )


def test_a_resumed_run_keeps_its_params_and_runs_again(folder):
    first = open_in(folder)
    first.log_params({"rho": 0.1})
    first.finish("FAILED", "out of memory")
    second = open_in(folder, run_id=first.run_id)
    second.log_params({"rho": 0.2, "seed": 0})
    run = stored(second)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"rho": "0.1", "seed": "0"}
    assert "error" not in run.data.tags


def test_an_unknown_run_is_one_sentence(folder):
    with pytest.raises(TrackingError, match="0123"):
        open_in(folder, run_id="0123")


def test_a_dataset_is_logged_without_its_data(folder):
    tracker = open_in(folder)
    tracker.log_dataset("digits", "abc", "train", {"samples": 1500})
    (data_input,) = stored(tracker).inputs.dataset_inputs
    assert (data_input.dataset.name, data_input.dataset.digest) == ("digits", "abc")
    assert json.loads(data_input.dataset.profile) == {"samples": 1500}
    assert data_input.tags[0].value == "train"


def test_a_long_digest_is_refused(folder):
    with pytest.raises(ValueError, match="at most 36 characters, got 64"):
        open_in(folder).log_dataset("digits", "a" * 64, "train", {})


def test_artifacts_lie_under_the_artifact_root(folder):
    tracker = open_in(folder)
    path = folder / "report.md"
    path.write_text("x", encoding="utf-8")
    tracker.log_artifact(path, "figures")
    kept = folder / "artifacts" / tracker.run_id / "artifacts" / "figures" / "report.md"
    assert kept.read_text(encoding="utf-8") == "x"


def test_a_missing_artifact_is_refused(folder):
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_in(folder).log_artifact(folder / "nothing")


def test_the_environment_is_left_alone(folder):
    open_in(folder).finish("FINISHED")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_the_null_tracker_loads_no_mlflow(tmp_path):
    code = """
import sys
from pathlib import Path
from admm_exp.tracking.tracker import NullTracker
from admm_exp.tracking.recording import OpenedRun, RecordingTracker
from admm_exp.tracking.run_status import Terminated, tracked
with tracked(NullTracker()) as tracker:
    tracker.log_params({"rho": 1})
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.log_dataset("digits", "abc", "train", {})
    tracker.log_artifact(Path("x"))
    tracker.set_tags({"a": "b"})
    tracker.flush()
assert "mlflow" not in sys.modules
"""
    process = start(code, cwd=tmp_path)
    assert process.communicate(timeout=60)[1] == ""
    assert list(tmp_path.iterdir()) == []
