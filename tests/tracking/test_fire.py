"""Servers that die, hang and come back under a tracker: nothing is lost, nothing is told twice."""

import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import SHORT, clean_environment
from support.servers import PG_CTL, Server, postgres, served, wait_until
from support.stores import client_at, runs_at
from support.writers import WRITERS, start_writers

from admm_exp.tracking import sender
from admm_exp.tracking.journal import metrics_of, read_entries, recorded_run
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.sync import deliver_journal

OWN = """
import time
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Linear(32, num_classes))

    def forward(self, x):
        if self.training:
            wait_at_gate()
        return self.body(x)

def wait_at_gate():
    journal = Path("outputs/runs/it/metrics.jsonl")
    told = journal.read_text() if journal.exists() else ""
    for gate in sorted(Path("gates").iterdir())[:1]:
        if gate.read_text() in told:
            Path("waiting").write_text(gate.name)
            while gate.exists():
                time.sleep(0.05)

def net(num_classes):
    return Net(num_classes)
"""
GATES = {"1": "dense/train_loss", "2": "admm/train_loss", "3": "finetune/train_loss"}
RUN = Path("outputs/runs/it")
JOB = (*SHORT, "model._target_=own.net", "~model.width", f"hydra.run.dir={RUN}")
JOB += ("schedule.admm_epoch=2", "schedule.finetune.epochs=2", "figures=auto")


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path, empty_store: Path) -> Iterator[Server]:
    """Run `mlflow server` on a fresh database."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            store = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
        elif PG_CTL is None:
            pytest.skip("PostgreSQL is not installed")
        elif importlib.util.find_spec("psycopg2") is None:
            pytest.skip("needs psycopg2")
        else:
            store = stack.enter_context(postgres())
        yield stack.enter_context(served(tmp_path, store))


def assert_all_arrived(uri: str, run_dir: Path) -> None:
    """Compare what a server has with the run's own file: every point once, in order."""
    entries = read_entries(run_dir / "metrics.jsonl")
    curves: dict[str, list[tuple[int, float, int]]] = {}
    for key, value, timestamp_ms, step in metrics_of(entries):
        curves.setdefault(key, []).append((step, value, timestamp_ms))
    client, opened = client_at(uri), recorded_run(entries)
    assert opened is not None
    run = client.get_run(opened.run_id)
    assert run.info.status == "FINISHED"
    assert set(run.data.metrics) == set(curves)
    for key, expected in curves.items():
        points = client.get_metric_history(run.info.run_id, key)
        assert [(p.step, p.value, p.timestamp) for p in points] == expected, key
    for entry in entries:
        assert run.data.params.items() >= entry.get("params", {}).items()
    files = {Path(entry["artifact"]["path"]).name for entry in entries if "artifact" in entry}
    kept = [Path(f.path).name for f in client.list_artifacts(run.info.run_id)]
    kept += [Path(f.path).name for f in client.list_artifacts(run.info.run_id, "figures")]
    assert files <= set(kept)


@pytest.mark.slow
def test_a_server_that_dies_twice_under_a_run_has_all_in_the_end(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "gates").mkdir()
    for name, text in GATES.items():
        (tmp_path / "gates" / name).write_text(text)
    command = [sys.executable, "-W", "ignore", "-m", "admm_exp", *JOB]
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(
            [*command, f"tracking_uri={server.uri}"],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=output,
            stderr=output,
        )

    def at_gate(name: str) -> bool:
        assert run.poll() is None, told()
        waiting = tmp_path / "waiting"
        return waiting.exists() and waiting.read_text() == name

    told = (tmp_path / "output").read_text
    try:
        for name, act in {"1": server.kill, "2": server.start, "3": server.kill}.items():
            wait_until(lambda name=name: at_gate(name), told)
            if name == "3":
                dense = client_at(server.uri).search_runs(["1"], "tags.kind = 'run'")[0]
                assert "dense/train_loss" in dense.data.metrics
            act()
            (tmp_path / "gates" / name).unlink()
        assert run.wait(300) == 0, told()
    finally:
        run.kill()
    assert told().count("does not take entries") == 1
    assert told().count("did not take the end of the run") == 1
    server.start()
    assert deliver_journal(tmp_path / RUN / "metrics.jsonl", server.uri) == "delivered"
    assert_all_arrived(server.uri, tmp_path / RUN)
    assert len(runs_at(server.uri, "tags.kind = 'baseline'")) == 1


@pytest.mark.slow
def test_eight_writers_lose_nothing_to_a_server_that_dies_under_them(
    server: Server, tmp_path: Path
) -> None:
    writers = start_writers(tmp_path, server.uri)
    journals = [tmp_path / str(number) / "metrics.jsonl" for number in range(WRITERS)]
    wait_until(lambda: all(journal.exists() for journal in journals), lambda: "no writer has begun")
    wait_until(lambda: len(read_entries(journals[0])) > 10, lambda: "nothing is written")
    server.kill()
    time.sleep(1)
    server.start()
    (tmp_path / "go").touch()
    _, told = writers.communicate(timeout=300)
    assert writers.returncode == 0
    assert told.count("does not take entries") == WRITERS
    assert "did not take the end" not in told
    for journal in journals:
        assert_all_arrived(server.uri, journal.parent)


@pytest.mark.long
def test_a_server_that_hangs_holds_nothing_up(
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, journal = f"sqlite:///{shutil.copy(empty_store, tmp_path)}", tmp_path / "metrics.jsonl"
    with served(tmp_path, store, is_whole=False) as server:
        tracker = open_tracker(server.uri, "exp", "run", tmp_path, journal, tags={})
        with monkeypatch.context() as impatient:
            impatient.setattr(sender, "PATIENCE_SECONDS", 1.0)
            impatient.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
            impatient.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            server.send(signal.SIGSTOP)
            start = time.monotonic()
            for step in range(100):
                tracker.log_metrics({"loss": 1.0 / (1 + step)}, step)
                tracker.flush()
            tracker.log_params({"rho": 0.1})
            assert time.monotonic() - start < 60  # only the first waits; all would take 300 s
            tracker.finish("FINISHED")
            assert time.monotonic() - start < 120
        server.kill()
        server.start()
        assert deliver_journal(journal, server.uri) == "delivered"
        assert_all_arrived(server.uri, tmp_path)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "did not take the end of the run" in messages[0]
    assert "deliver" in messages[0]
