"""The store of many copies that reading is measured on."""

import json
import sqlite3
from contextlib import closing

from support.runs import row
from support.stores import log_runs

from admm_exp.bench.many_runs import copy_runs

WHAT_DIFFERS = "SELECT run_uuid, start_time, name, artifact_uri FROM runs ORDER BY start_time"


def store_with_a_run(folder):
    run_dir = folder / "run"
    run_dir.mkdir(parents=True)
    (run_dir / "report.json").write_text(json.dumps({"mlflow": {"run_id": "?"}}))
    (folder / "outputs").mkdir()
    log_runs(folder / "outputs", [row(0.1, 0.5) | {"run_dir": str(run_dir)}])
    return folder


def copies(folder):
    with closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as database:
        _, *rows = database.execute(WHAT_DIFFERS).fetchall()
        start = database.execute("SELECT min(start_time) FROM runs").fetchone()[0]
    return [(uuid, time - start, name) for uuid, time, name, _ in rows]


def test_two_calls_make_the_copies_of_one(tmp_path):
    once, twice = (store_with_a_run(tmp_path / name) for name in ("once", "twice"))
    copy_runs(once, 5)
    copy_runs(twice, 2)
    copy_runs(twice, 3)
    assert copies(once) == copies(twice)
    assert len({uuid for uuid, _, _ in copies(twice)}) == 5
    for folder in (once, twice):
        reports = sorted((folder / "outputs/sweeps/many").glob("*/report.json"))
        ids = {json.loads(path.read_text())["mlflow"]["run_id"] for path in reports}
        assert ids == {uuid for uuid, _, _ in copies(folder)}
