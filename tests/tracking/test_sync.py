"""What a server did not take is delivered later: in order, once, by the command."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from support.trackers import curve, open_in, stored

from admm_exp.app.sync_command import sync
from admm_exp.errors import ConfigError
from admm_exp.tracking.journal import Journal, baseline_entry, read_entries
from admm_exp.tracking.late_files import add_files
from admm_exp.tracking.sync import deliver_journal
from admm_exp.tracking.tracker import Baseline


def tell(tracker, folder):
    """Tell a tracker all that a run tells."""
    path = folder / "run" / "report.md"
    path.write_text("x", encoding="utf-8")
    tracker.log_params({"rho": 0.1})
    tracker.log_dataset("digits", "abc", "train", {"samples": 3})
    for step in range(3):
        tracker.log_metrics({"loss": float(step), "nan": float("nan")}, step)
    tracker.log_artifact(path)
    curves = [(1, {"dense/val_loss": float("inf")}), (2, {"dense/val_loss": 0.5})]
    lock = folder / "x.lock"
    tracker.share_baseline(Baseline("k1", lock, "dense", {"seed": 0}, curves, {"final/macs": 9.0}))


def cut_off(tracker, monkeypatch):
    """Take the server away."""

    def gone(uri):
        raise ConnectionError("server is down")

    monkeypatch.setattr("admm_exp.tracking.sender.contact", gone)


def test_all_that_a_dead_server_missed_is_delivered_once(folder, monkeypatch):
    tracker = open_in(folder)
    cut_off(tracker, monkeypatch)
    tell(tracker, folder)
    tracker.finish("FAILED", "out of memory")
    monkeypatch.undo()
    assert stored(tracker).info.status == "RUNNING"
    journal = folder / "run" / "metrics.jsonl"
    assert deliver_journal(journal, tracker.tracking_uri) == "delivered"
    run = stored(tracker)
    assert (run.info.status, run.data.params["rho"]) == ("FAILED", "0.1")
    assert run.data.tags["error"] == "out of memory"
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["digits"]
    assert curve(tracker, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert len(curve(tracker, "nan")) == 3
    baseline = tracker._client.get_run(run.data.tags["baseline_run_id"])
    assert baseline.data.tags["dense_key"] == "k1"
    assert baseline.data.metrics == {"dense/val_loss": 0.5, "final/macs": 9.0}
    macs = tracker._client.get_metric_history(baseline.info.run_id, "final/macs")
    assert [point.step for point in macs] == [0]
    files = folder / "artifacts" / tracker.run_id / "artifacts"
    assert (files / "report.md").read_text(encoding="utf-8") == "x"
    assert deliver_journal(journal, tracker.tracking_uri) == "nothing to deliver"


def test_two_who_deliver_at_once_deliver_once(folder, monkeypatch):
    tracker = open_in(folder)
    cut_off(tracker, monkeypatch)
    tell(tracker, folder)
    tracker.finish("FINISHED")
    monkeypatch.undo()
    journal = folder / "run" / "metrics.jsonl"
    order = f"deliver_journal(Path({str(journal)!r}), {tracker.tracking_uri!r})"
    imports = "from pathlib import Path; from admm_exp.tracking.sync import deliver_journal"
    command = [sys.executable, "-c", f"{imports}; input(); print({order})"]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sorted(process.communicate()[0].strip() for process in both)
    assert said == ["delivered", "nothing to deliver"]
    assert journal.read_text().count("delivered") == 1


def test_half_delivered_curves_are_completed_without_duplicates(folder, monkeypatch):
    tracker = open_in(folder)
    tracker.log_metrics({"loss": 0.0}, 0)
    tracker.flush()
    cut_off(tracker, monkeypatch)
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish("FINISHED")
    monkeypatch.undo()
    assert deliver_journal(folder / "run" / "metrics.jsonl", tracker.tracking_uri) == "delivered"
    assert curve(tracker, "loss") == [(0, 0.0), (1, 1.0)]


def test_a_dense_network_whose_run_is_not_over_is_not_shared(folder):
    tracker = open_in(folder)
    tags = {"kind": "baseline", "dense_key": "k1"}
    died = tracker._client.create_run(tracker.experiment_id, tags=tags).info.run_id
    tracker.share_baseline(Baseline("k1", folder / "x.lock", "dense", {}, [], {}))
    tracker.finish("FINISHED")
    assert stored(tracker).data.tags["baseline_run_id"] != died


def test_a_file_of_later_goes_nowhere_that_a_database_names(folder, caplog):
    tracker, elsewhere = open_in(folder), folder / "elsewhere"
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET artifact_uri = ?", (elsewhere.as_uri(),))
    late = folder / "late.md"
    late.touch()
    add_files(tracker.tracking_uri, tracker.run_id, [late])
    assert "late.md did not reach MLflow" in caplog.text
    assert not elsewhere.exists()


def test_a_run_that_goes_on_is_left_alone(folder):
    tracker = open_in(folder)
    assert (
        deliver_journal(folder / "run" / "metrics.jsonl", tracker.tracking_uri) == "still running"
    )
    assert stored(tracker).info.status == "RUNNING"


def test_a_failed_run_that_died_when_it_went_on_is_delivered_as_killed(folder):
    tracker, path = open_in(folder), folder / "run" / "metrics.jsonl"
    journal = Journal(path)
    journal.append({"status": "FAILED"})
    tags = next(entry["tags"] for entry in read_entries(path) if "tags" in entry)
    journal.append({"tags": tags | {"pid": dead_pid()}})
    assert deliver_journal(path, tracker.tracking_uri) == "delivered"
    assert stored(tracker).info.status == "KILLED"


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return str(process.pid)


def test_a_run_whose_process_died_is_delivered_as_killed(folder):
    tracker = open_in(folder)
    tracker.log_metrics({"loss": 1.0}, 1)
    journal = folder / "run" / "metrics.jsonl"
    pid, died = str(os.getpid()), dead_pid()
    journal.write_text(journal.read_text().replace(f'"pid": "{pid}"', f'"pid": "{died}"'))
    journal.write_text(journal.read_text() + '{"step": 2, "timesta')  # died in the middle of a line
    assert deliver_journal(journal, tracker.tracking_uri) == "delivered"
    assert stored(tracker).info.status == "KILLED"
    assert curve(tracker, "loss") == [(1, 1.0)]


def test_points_of_the_journal_are_not_logged_again_and_lost_ones_are_sent(folder):
    first = open_in(folder)
    first.log_metrics({"loss": 1.0}, 1)  # buffered, then the process dies
    second = open_in(folder, run_id=first.run_id)
    second.log_metrics({"loss": 5.0}, 1)
    second.log_metrics({"loss": 2.0}, 2)
    second.finish("FINISHED")
    assert curve(second, "loss") == [(1, 1.0), (2, 2.0)]


def test_points_that_the_server_alone_has_are_not_logged_again(folder):
    first = open_in(folder)
    first.log_metrics({"loss": 1.0}, 1)
    first.flush()
    first.journal.path.unlink()
    second = open_in(folder, run_id=first.run_id)
    second.log_metrics({"loss": 1.0}, 1)
    second.log_metrics({"loss": 2.0}, 2)
    second.finish("FINISHED")
    assert curve(second, "loss") == [(1, 1.0), (2, 2.0)]


def test_the_command_names_what_it_cannot_deliver_and_goes_on(folder, capsys):
    broken = folder / "a" / "metrics.jsonl"
    broken.parent.mkdir()
    broken.write_text("no json\n", encoding="utf-8")
    tracker = open_in(folder)
    tracker.finish("FINISHED")
    assert not sync(folder, tracker.tracking_uri)
    out, err = capsys.readouterr()
    assert f"{folder / 'run'}: nothing to deliver" in out
    assert f"{broken} is damaged" in err
    with pytest.raises(ConfigError, match="runs must be a folder"):
        sync(folder / "nowhere", tracker.tracking_uri)


def test_a_disk_that_is_full_stops_no_run_and_is_told_once(folder, monkeypatch, caplog):
    tracker = open_in(folder)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tracker.journal.path), "open", full)
    for step in range(3):
        tracker.log_metrics({"loss": float(step)}, step)
    monkeypatch.undo()
    tracker.finish("FINISHED")
    assert curve(tracker, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert caplog.text.count("No space left on device") == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_disk_that_is_full_in_mid_line_leaves_no_half_of_it(tmp_path, caplog):
    import resource

    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append({"step": 1})
    handler, limits = signal.getsignal(signal.SIGXFSZ), resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 5, limits[1]))
        journal.append({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    journal.append({"step": 3})
    assert read_entries(journal.path) == [{"step": 1}, {"step": 3}]
    assert "cannot be written" in caplog.text


def test_no_file_is_sent_that_has_another_name_or_is_not_there(folder, caplog):
    run, tracker = folder / "run", open_in(folder)
    (folder / "secret").write_text("key")
    os.link(folder / "secret", run / "key.txt")
    with (run / "big.bin").open("wb") as file:
        file.truncate(2**40)
    (run / "loop").symlink_to("loop")
    for name in ("key.txt", "big.bin", "loop", "x" * 300):
        tracker.journal.append({"artifact": {"path": str(run / name), "folder": None}})
    lock = run / "loop" / "k1.baseline.lock"
    tracker.journal.append(baseline_entry(Baseline("k1", lock, "dense", {}, [], {})))
    tracker.journal.append({"status": "FINISHED"})
    assert deliver_journal(run / "metrics.jsonl", tracker.tracking_uri) == "delivered"
    assert tracker._client.list_artifacts(tracker.run_id) == []
    assert "key.txt is not sent: it is one of 2 names of a file" in caplog.text
    assert "big.bin is not sent: it claims 1099511627776 bytes" in caplog.text
