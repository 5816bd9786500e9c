"""A real sweep of four tiny jobs, and what it must leave, whatever launched it."""

import json
from pathlib import Path

from conftest import Done
from support.stores import runs_at

FOUR_JOBS = (
    *("-m", "rho=0.1,0.5", "sparsity=0.3,0.5", "model=small_cnn", "device=cpu"),
    *("schedule.dense.epochs=1", "schedule.admm_iterations=1", "schedule.admm_epoch=1"),
    "schedule.finetune.epochs=0",
)


def assert_four_jobs_under_one_parent(work: Path, done: Done, uri: str) -> None:
    assert done.returncode == 0, done.stderr
    (table,) = (work / "outputs" / "sweeps").glob("*/sweep.json")
    rows = json.loads(table.read_text())
    assert [row["status"] for row in rows] == ["finished"] * 4
    kinds = ("run", "sweep", "baseline")
    children, (parent,), (baseline,) = (runs_at(uri, f"tags.kind = '{kind}'") for kind in kinds)
    names = sorted(run.info.run_name for run in children)
    assert names == [f"rho={rho},sparsity={s}" for rho in (0.1, 0.5) for s in (0.3, 0.5)]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in (parent, baseline, *children)} == {"FINISHED"}
    assert {run.data.tags["baseline_run_id"] for run in children} == {baseline.info.run_id}
    assert len({run.data.tags["pid"] for run in children}) > 1
