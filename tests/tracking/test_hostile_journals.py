"""A journal that someone else wrote: what it names is not sent, locked or written to."""

import json
import logging
import os
import shutil
import socket
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support.trackers import open_in, stored

from admm_exp.errors import TrackingError
from admm_exp.tracking.journal import read_entries
from admm_exp.tracking.own_store import chosen_address
from admm_exp.tracking.runs import read_runs
from admm_exp.tracking.sync import deliver_journal


@pytest.fixture
def unsent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run whose store has none of its entries yet."""
    tracker = open_in(folder)

    def gone(uri: str) -> None:
        raise ConnectionError("server is down")

    with monkeypatch.context() as patch:
        patch.setattr("admm_exp.tracking.sender.contact", gone)
        tracker.finish("FINISHED")
    return tracker


def journal_of(folder: Path, *entries: object) -> Path:
    """Put entries before the last of the journal."""
    path = folder / "run" / "metrics.jsonl"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *map(json.dumps, entries), last]) + "\n")
    return path


def artifact(path: Path | str, place: object = None) -> dict[str, object]:
    return {"artifact": {"path": str(path), "folder": place}}


def sent(folder: Path) -> set[str]:
    return {path.name for path in (folder / "artifacts").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["secret", "run/../secret", "run/link", "run/linked/secret", "run"]
)
def test_files_outside_the_runs_folder_are_not_sent(
    folder: Path, unsent: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "secret").write_text("a key")
    (folder / "run" / "link").symlink_to(folder / "secret")
    (folder / "run" / "linked").symlink_to(folder)
    (folder / "run" / "own.md").write_text("mine")
    entries = [artifact(folder / name), artifact(folder / "run" / "own.md")]
    with caplog.at_level(logging.WARNING):
        assert deliver_journal(journal_of(folder, *entries), unsent.tracking_uri) == "delivered"
    assert sent(folder) == {"own.md"}
    assert "is not sent" in caplog.text


def test_a_pipe_is_not_sent(folder: Path, unsent: Any) -> None:
    os.mkfifo(folder / "run" / "pipe")
    path = journal_of(folder, artifact(folder / "run" / "pipe"))
    assert deliver_journal(path, unsent.tracking_uri) == "delivered"
    assert sent(folder) == set()


@pytest.mark.parametrize("place", ["..", "../../x", "/tmp", 3, ["x"]])
def test_a_place_among_the_artifacts_is_a_plain_name(
    folder: Path, unsent: Any, place: object
) -> None:
    (folder / "run" / "own.md").write_text("mine")
    path = journal_of(folder, artifact(folder / "run" / "own.md", place))
    with suppress(TrackingError):  # what is no text is damage
        deliver_journal(path, unsent.tracking_uri)
    assert sent(folder) == set()


def test_a_folder_that_was_moved_sends_its_own_files(folder: Path, unsent: Any) -> None:
    path = folder / "run" / "metrics.jsonl"
    tags = {"tags": {"pid": "1", "host": "elsewhere", "run_dir": "/cluster/run"}}
    journal_of(folder, tags, artifact("/cluster/run/report.md"))
    (folder / "run" / "report.md").write_text("mine")
    assert deliver_journal(path, unsent.tracking_uri) == "delivered"
    assert sent(folder) == {"report.md"}


def test_no_lock_is_taken_where_a_journal_says(
    folder: Path, unsent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    victim = folder.parent / "authorized_keys"
    victim.write_text("a key")
    kept = {"key": "k1", "lock": str(victim), "name": "x", "params": {}, "curves": [], "final": {}}
    path = journal_of(folder, {"baseline": kept})
    assert deliver_journal(path, unsent.tracking_uri) == "delivered"
    assert victim.read_text() == "a key"
    assert "baseline_run_id" in stored(unsent).data.tags


def test_a_run_that_was_tracked_elsewhere_is_sent_nowhere_unless_the_user_says_so(
    folder: Path, unsent: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        path = folder / "run" / "metrics.jsonl"
        path.write_text(path.read_text().replace(unsent.tracking_uri, address))
        with pytest.raises(TrackingError, match=f"confirm it with tracking_uri={address}"):
            deliver_journal(path, unsent.tracking_uri, is_chosen=False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert deliver_journal(path, unsent.tracking_uri) == "delivered"


def test_a_journal_that_is_a_link_is_refused(folder: Path, unsent: Any) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "metrics.jsonl").symlink_to(folder / "run" / "metrics.jsonl")
    with pytest.raises(TrackingError, match="is a link"):
        deliver_journal(other / "metrics.jsonl", unsent.tracking_uri)


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:9/x",
        "s3://bucket/x",
        "/home/me/.config",
        "file:///tmp/../etc/{id}/artifacts",
    ],
)
def test_a_database_does_not_choose_where_files_go(folder: Path, unsent: Any, place: str) -> None:
    uri = place.replace("{id}", unsent.run_id)
    with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        store.execute("UPDATE runs SET artifact_uri = ?", (uri,))
    with pytest.raises(TrackingError, match="nothing is sent where a database says"):
        deliver_journal(folder / "run" / "metrics.jsonl", unsent.tracking_uri)


@pytest.mark.parametrize(
    "entry",
    [
        {"status": "HACKED"},
        {"metrics": {"a": "b"}, "step": 1, "timestamp_ms": 1},
        {"metrics": {"a": 1}},
        {"metrics": {"a": 1}, "step": 1e999, "timestamp_ms": 1},
        {"metrics": [1]},
        {"tags": ["pid"]},
        {"params": 3},
        {"run": {"tracking_uri": "sqlite:///x"}},
        {"artifact": {"path": 3}},
        {"artifact": "x"},
        {"dataset": {"name": "x"}},
        {"baseline": {"key": "k"}},
        {"baseline": {"key": "k", "lock": "x", "name": "x", "curves": 3, "final": {}}},
        [],
        "x",
    ],
)
def test_a_damaged_journal_is_named(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(entry) + "\n")
    with pytest.raises(TrackingError, match=r"metrics\.jsonl is damaged \(.+\): delete it"):
        read_entries(path)


def test_a_database_of_the_current_folder_that_holds_the_run_is_gone_on_with(
    folder: Path, unsent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, own = folder / "run", "sqlite:///outputs/mlflow.db"
    monkeypatch.chdir(folder)
    uri = unsent.tracking_uri
    assert chosen_address(run, uri, own, unsent.run_id) == uri
    for run_id in ("another", None):
        with pytest.raises(TrackingError, match="your settings do not name"):
            chosen_address(run, uri, own, run_id)
    shutil.copy(folder / "mlflow.db", run / "mlflow.db")
    with pytest.raises(TrackingError, match="your settings do not name"):
        chosen_address(run, f"sqlite:///{run}/mlflow.db", own, unsent.run_id)


def test_an_address_is_the_users_own_whatever_its_password(tmp_path: Path) -> None:
    own = "http://ann:secret@host:5000/"
    assert chosen_address(tmp_path, "http://ann:***@host:5000", own, None) == own


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"


@pytest.mark.parametrize(
    "statement",
    [
        f"CREATE VIEW more AS {ENDLESS}",
        "CREATE TRIGGER more AFTER INSERT ON runs BEGIN DELETE FROM params; END",
        "CREATE TRIGGER more AFTER UPDATE ON experiment_tags BEGIN DELETE FROM runs; END",
    ],
)
def test_a_database_that_works_when_it_is_read_is_refused(
    folder: Path, unsent: Any, statement: str
) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute(statement)
    with pytest.raises(TrackingError, match=r"holds the (view|trigger) more, which would be run"):
        read_runs(unsent.tracking_uri, "exp")
    with pytest.raises(TrackingError, match="which would be run"):
        open_in(folder)


def test_a_view_is_found_in_a_database_whose_texts_are_no_utf8(folder: Path, unsent: Any) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("CREATE VIEW more AS SELECT 1")
        database.execute("PRAGMA writable_schema = ON")
        sql = b"CREATE VIEW more AS SELECT '\xff'"
        database.execute(
            "UPDATE sqlite_master SET sql = CAST(? AS TEXT) WHERE name = 'more'", [sql]
        )
        database.commit()
    with pytest.raises(TrackingError, match=r"holds the view more, which would be run"):
        read_runs(unsent.tracking_uri, "exp")
