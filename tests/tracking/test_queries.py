"""Which runs that stayed RUNNING are closed."""

from support.runs import row
from support.stores import log_runs, runs_at, store_uri

from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.queries import close_lost_children


def test_runs_of_a_sweep_that_is_over_are_closed_on_whatever_machine(tmp_path):
    uri = store_uri(tmp_path)
    log_runs(tmp_path, [row(0.1, run_dir="elsewhere")])
    sweep = open_tracker(
        *(uri, "made-up", "sweep", tmp_path, tmp_path / "sweep.jsonl"), tags={"kind": "sweep"}
    )
    for number, folder in enumerate(("sweep/0", "other/1")):
        tags = {"host": "node7", "run_dir": str(tmp_path / folder)}
        journal = tmp_path / f"{number}.jsonl"
        open_tracker(
            *(uri, "made-up", folder, tmp_path, journal), tags=tags, parent_run_id=sweep.run_id
        )
    close_lost_children(sweep, tmp_path / "sweep")
    found = {run.info.run_name: run.info.status for run in runs_at(uri, experiment="made-up")}
    assert found["sweep/0"] == "KILLED"
    assert found["other/1"] == "RUNNING"
