"""What is read in few and small answers is what MLflow's own client reads."""

import math
import threading

import pytest
from filelock import FileLock
from support.runs import row
from support.servers import served
from support.stores import client_at, log_runs, store_uri

from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.queries import earlier_sweep, finished_among
from admm_exp.tracking.runs import read_runs
from admm_exp.tracking.stored_runs import StoredRun, runs_by_id, stored_runs

FILTERS = (
    "",
    "attributes.status = 'FINISHED'",
    "params.model = 'vgg16_bn'",
    "metrics.`final/accuracy` > 0.97 and tags.kind = 'run'",
    "params.rho IS NULL",
    "dataset.name = 'digits'",
    "attributes.run_name LIKE '%sparsity=0.5'",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    log_runs(folder, [row(rho, s) for rho in (0.1, 0.2) for s in (0.3, 0.5)])
    log_runs(folder, [row(0.3, model="vgg16_bn", status="FAILED", error="no room")])
    tracker = open_tracker(
        *(store_uri(folder), "made-up", "odd", folder / "artifacts", folder / "odd.jsonl"), tags={}
    )
    tracker.log_metrics({"nan": math.nan, "inf": math.inf, "zero": 0.0}, step=1)
    tracker.log_dataset("digits", "abc", "train", {})
    tracker.finish("FINISHED")
    return folder


def by_mlflow(client, experiment_id, among):
    order = ["attributes.start_time DESC"]
    for run in client.search_runs([experiment_id], among, order_by=order):
        info, data = run.info, run.data
        head = (info.run_id, info.run_name, info.status, info.artifact_uri)
        yield StoredRun(*head, dict(data.params), dict(data.metrics), dict(data.tags))


def comparable(runs):
    """Let NaN equal NaN."""
    return [str(run) for run in runs]


def same(client, among):
    experiment_id = client.get_experiment_by_name("made-up").experiment_id
    read = list(stored_runs(client, experiment_id, among, page=2))
    wanted = list(by_mlflow(client, experiment_id, among))
    for run in (*read, *wanted):  # rows of a table come in any order
        for part in (run.params, run.metrics, run.tags):
            items = sorted(part.items())
            part.clear()
            part.update(items)
    return comparable(read), comparable(wanted)


@pytest.mark.parametrize("among", FILTERS)
def test_a_database_gives_what_mlflow_gives(folder, among):
    read, wanted = same(client_at(store_uri(folder)), among)
    assert read == wanted
    assert read


def test_a_deleted_run_is_not_read(folder):
    client = client_at(store_uri(folder))
    experiment_id = client.get_experiment_by_name("made-up").experiment_id
    deleted = client.create_run(experiment_id).info.run_id
    client.delete_run(deleted)
    found = stored_runs(client, experiment_id, "")
    assert deleted not in [run.run_id for run in found]


def test_a_server_gives_what_mlflow_gives(folder, tmp_path):
    with served(tmp_path, store_uri(folder), is_whole=False) as server:
        client = client_at(server.uri)
        for among in FILTERS:
            read, wanted = same(client, among)
            assert read == wanted
            assert read


def test_only_the_runs_that_are_asked_about_are_read(folder):
    uri = store_uri(folder)
    client = client_at(uri)
    experiment_id = client.get_experiment_by_name("made-up").experiment_id
    runs = list(stored_runs(client, experiment_id))
    failed, odd = (next(r for r in runs if r.name.startswith(n)) for n in ("rho=0.3", "odd"))
    asked = [failed.run_id, odd.run_id, "nobody", "' or 1=1 --"]
    found = list(runs_by_id(client, experiment_id, asked))
    assert {run.run_id for run in found} == {failed.run_id, odd.run_id}
    assert all(not run.params and not run.metrics for run in found)
    finished = [run.run_id for run in runs if run.name.startswith("rho=0.1")]
    assert finished_among(uri, "made-up", [*asked, *finished]) == set(finished)
    assert finished_among(uri, "unknown", finished) == frozenset()


def test_reading_does_not_wait_for_the_lock_of_the_store(folder):
    uri = store_uri(folder)
    done = threading.Event()

    def read():
        read_runs(uri, "made-up", detailed=lambda rows: [])
        earlier_sweep(uri, "made-up", folder, "none")
        done.set()

    with FileLock(f"{folder}/mlflow.db.lock"):
        threading.Thread(target=read, daemon=True).start()
        assert done.wait(60)
