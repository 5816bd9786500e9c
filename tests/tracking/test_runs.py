import json
import math
import os
import re
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.runs import DENSE_MACS, details, row
from support.stores import log_runs, store_uri
from support.trackers import open_in

from admm_exp.errors import TrackingError
from admm_exp.tracking import own_store, runs
from admm_exp.tracking.address import sqlite_file
from admm_exp.tracking.runs import read_runs, row_of
from admm_exp.tracking.store import explained
from admm_exp.tracking.stored_runs import StoredRun


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    log_runs(folder, [row(0.5, tags={"config_hash": "old"}, accuracy=0.1)])
    log_runs(folder, [row(0.5, tags={"config_hash": "old"}, accuracy=0.9)])
    log_runs(folder, [row(0.25, model="vgg16_bn", parent="sweep-1", **details())])
    log_runs(folder, [row(0.1, status="FAILED", error="out of memory", tags={"config_hash": "x"})])
    log_runs(folder, [row(0.2, tags={"kind": "baseline"})])
    log_runs(folder, [row(0.1, status="KILLED")], "unfinished")
    log_runs(folder, [row(7.0)], "swept")
    return store_uri(folder)


def rhos(rows):
    return [row["rho"] for row in rows]


def test_rows_say_what_the_run_logged(uri):
    last_residual = details()["iterations"][-1]["primal_residual"]
    known = row(0.25, model="vgg16_bn", primal_residual=last_residual, **details())
    found = next(r for r in read_runs(uri, "made-up").rows if r["rho"] == 0.25)
    names = set(known) - {"run_id", "flops_ratio"}
    assert {name: found[name] for name in names} == {name: known[name] for name in names}


def test_without_report_the_dense_network_follows_from_the_metrics(uri):
    found = next(r for r in read_runs(uri, "made-up").rows if r["rho"] == 0.5)
    assert found["dense_macs"] == pytest.approx(DENSE_MACS)
    assert found["dense_accuracy"] == pytest.approx(0.9 + row(0.5)["accuracy_drop"])
    assert "iterations" not in found


def test_finished_runs_come_newest_first_and_repeats_once(uri):
    found = read_runs(uri, "made-up")
    assert rhos(found.rows) == [0.25, 0.5]
    assert (found.repeats, found.rows[1]["accuracy"]) == (1, 0.9)


def test_what_did_not_finish_is_named_with_its_error(uri):
    (failed,) = read_runs(uri, "made-up").unfinished
    assert (failed["status"], failed["error"]) == ("FAILED", "out of memory")


def test_a_filter_chooses_runs(uri):
    assert rhos(read_runs(uri, "made-up", among="params.model = 'vgg16_bn'").rows) == [0.25]


def test_more_runs_than_a_page_are_all_read(uri, monkeypatch):
    monkeypatch.setattr("admm_exp.tracking.stored_runs.PAGE", 1)
    assert rhos(read_runs(uri, "made-up").rows) == [0.25, 0.5]


def test_a_parent_chooses_its_children_from_any_experiment(uri):
    (sweep,) = (r for r in read_runs(uri, "swept").rows if r["rho"] == 7.0)
    folder = sqlite_file(uri).parent
    log_runs(folder, [row(0.1, parent=sweep["run_id"]), row(0.2, parent=sweep["run_id"])], "swept")
    found = read_runs(uri, "whatever", parent=sweep["run_id"])
    assert (found.experiment, sorted(rhos(found.rows))) == ("swept", [0.1, 0.2])


@pytest.mark.parametrize(
    ("experiment", "choice", "sentence"),
    [
        ("made_up", {}, "experiment_name=made_up is not in .*; did you mean 'made-up'"),
        ("made-up", {"parent": "nobody"}, "parent=nobody is no run of "),
        ("made-up", {"among": "params.model is"}, "filter=params.model is is not a filter of"),
        ("made-up", {"among": "params.model = 'none'"}, "with filter=.* was found: choose other"),
        ("unfinished", {}, r"no run of experiment 'unfinished' has finished \(1 is KILLED\)"),
    ],
)
def test_a_choice_without_runs_is_one_sentence(uri, experiment, choice, sentence):
    with pytest.raises(TrackingError, match=sentence):
        read_runs(uri, experiment, **choice)


def test_a_missing_store_is_not_created(tmp_path):
    with pytest.raises(TrackingError, match=r"there is no store at .*: run admm-exp here first"):
        read_runs(store_uri(tmp_path / "none"), "made-up")
    assert list(tmp_path.iterdir()) == []


def test_reports_of_the_chosen_runs_alone_are_read(tmp_path):
    log_runs(tmp_path, [row(rho, **details()) for rho in (0.1, 0.2)])
    found = read_runs(store_uri(tmp_path), "made-up", detailed=lambda rows: rows[:1])
    assert ["iterations" in r for r in found.rows] == [True, False]
    assert found.without_report == 0


def test_reports_out_of_reach_are_counted(tmp_path):
    log_runs(tmp_path, [row(0.1, **details()), row(0.2)])
    assert read_runs(store_uri(tmp_path), "made-up").without_report == 1


def test_report_of_a_run_on_a_server_takes_one_request(tmp_path):
    dense = {"macs": 8, "test_accuracy": 0.5}
    report = {"models": {"dense": dense}, "admm": {"iterations": []}, "layers": []}
    asked = []

    class Files(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = json.dumps(report).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = SimpleNamespace(tracking_uri=f"http://127.0.0.1:{server.server_port}")
    try:
        found = runs._details(client, "mlflow-artifacts:/0/a/artifacts", tmp_path / "a")
    finally:
        server.shutdown()
        server.server_close()
    about_files = [path for path in asked if "artifacts" in path]
    assert about_files == ["/api/2.0/mlflow-artifacts/artifacts/0/a/artifacts/report.json"]
    assert found is not None
    assert found["dense_macs"] == dense["macs"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308])
def test_a_number_that_no_run_reaches_counts_as_unknown(value):
    metrics = {"final/macs": value, "final/params": 3.0, "finetune/val_accuracy": value}
    found = row_of(stored(metrics, rho=str(value), sparsity="0.5"))
    assert [found[name] for name in ("macs", "params", "val_accuracy")] == [None, 3.0, None]
    assert [found[name] for name in ("rho", "sparsity")] == [None, 0.5]


@pytest.mark.parametrize("seed", ["1.5", "abc", "-1", "9" * 5000])
def test_a_run_with_a_seed_of_another_tool_is_named(seed):
    with pytest.raises(TrackingError, match=r"the run 'mine' \(id\) has the seed '.*', which is"):
        row_of(stored({}, seed=seed))


def stored(metrics, **params):
    return StoredRun("id", "mine", "FINISHED", "place", params, metrics)


def altered(folder, sql, *values):
    log_runs(folder, [row(0.1), row(0.2)])
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute(sql, values)
        database.commit()
    return store_uri(folder)


@pytest.mark.parametrize("value", ["x", b"\x00\xff"])
def test_a_metric_that_is_no_number_counts_as_unknown(tmp_path, value):
    sql = "UPDATE latest_metrics SET value = ? WHERE key = 'final/macs'"
    found = read_runs(altered(tmp_path, sql, value), "made-up").rows
    assert [one["macs"] for one in found] == [None, None]
    assert all(one["params"] for one in found)


def test_a_name_and_settings_of_bytes_are_read_as_texts(tmp_path):
    uri = altered(tmp_path, "UPDATE runs SET name = ?", b"\x00\xffa")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("UPDATE params SET value = ? WHERE key = 'model'", (b"vgg\xff",))
        database.execute("UPDATE params SET value = 7 WHERE key = 'method'")
        database.commit()
    (one, _) = read_runs(uri, "made-up").rows
    assert (one["run_name"], one["model"], one["method"]) == ("\0\ufffda", "vgg\ufffd", "7")


def database_of(path, *statements):
    with closing(sqlite3.connect(path)) as database:
        for sql in statements:
            database.execute(sql)
        database.commit()


NO_STORE = {
    "empty": (Path.touch, "is an empty file and no store of runs yet: run admm-exp here first"),
    "folder": (Path.mkdir, "is a folder and no store of runs: set another tracking_uri"),
    "device": (lambda path: path.symlink_to("/dev/null"), "is no regular file and no store"),
    "text": (
        lambda path: path.write_text("no database " * 50),
        "is a file of another kind and no store of runs: set another tracking_uri",
    ),
    "without tables": (
        lambda path: database_of(path, "CREATE TABLE a (b)", "DROP TABLE a"),
        "is a database without tables: run admm-exp here first, or set tracking_uri",
    ),
    "other tables": (
        lambda path: database_of(path, "CREATE TABLE mine (a)", "CREATE TABLE yours (a)"),
        "is no store of runs, it holds 'mine', 'yours': set another tracking_uri",
    ),
    "runs of another program": (
        lambda path: database_of(path, "CREATE TABLE experiments (a)", "CREATE TABLE runs (km)"),
        "is no store of runs, it holds 'experiments', 'runs': set another tracking_uri",
    ),
}


@pytest.mark.parametrize("kind", NO_STORE)
def test_what_lies_where_a_store_should_be_is_named_and_left_as_it_is(tmp_path, kind):
    path, (make, sentence) = tmp_path / "mlflow.db", NO_STORE[kind]
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(TrackingError, match=f"^{re.escape(str(path))} {sentence}"):
        read_runs(store_uri(tmp_path), "made-up")
    assert [found.name for found in tmp_path.iterdir()] == ["mlflow.db"]
    assert not path.is_file() or path.read_bytes() == before


@pytest.fixture
def no_place_is_writable(monkeypatch):
    """Let no folder be written to, as the system says; root may write to any."""
    system = SimpleNamespace(access=lambda place, mode: False, W_OK=os.W_OK)
    monkeypatch.setattr(own_store, "os", system)


def test_a_store_in_a_folder_that_cannot_be_written_is_read(tmp_path, no_place_is_writable):
    folder = tmp_path / "a#b"
    log_runs(folder, [row(0.5)])
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("wal", "shm"):  # as if the process that wrote them had ended
        (folder / f"mlflow.db-{suffix}").unlink(missing_ok=True)
    (run,) = read_runs(store_uri(folder), "made-up").rows
    assert run["rho"] == 0.5
    with pytest.raises(TrackingError, match=r"file:.*a%.*23b/mlflow\.db\?immutable=1"):
        read_runs(store_uri(folder), "none")


def test_a_database_that_another_process_writes_to_does_not_stand_still(
    tmp_path, no_place_is_writable
):
    assert own_store.is_frozen(tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db-wal").touch()
    assert not own_store.is_frozen(tmp_path / "mlflow.db")


def test_a_run_is_told_that_its_store_cannot_be_written(tmp_path, no_place_is_writable):
    sentence = r"mlflow\.db lies in a folder that cannot be written, .*: copy it to one that can"
    with pytest.raises(TrackingError, match=sentence), explained(store_uri(tmp_path)):
        raise sqlite3.OperationalError("unable to open database file")


@pytest.mark.parametrize("kind", ["text", "other tables", "runs of another program"])
def test_no_run_is_written_into_what_is_of_something_else(tmp_path, kind):
    make, sentence = NO_STORE[kind]
    make(tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match=sentence):
        open_in(tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes() == before
