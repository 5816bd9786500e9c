"""Eight processes write into one fresh store at once."""

import subprocess
import sys
from pathlib import Path

from stores import client_at, runs_at, store_uri

WRITERS, STEPS, KEYS = 8, 40, 5
WRITE = f"""
import multiprocessing, sys
from pathlib import Path
import warnings
warnings.simplefilter("ignore")
import mlflow
from admm_exp.tracking import open_tracker, tracked

def write(number):
    folder = Path(sys.argv[1])
    tracker = open_tracker(f"sqlite:///{{folder}}/mlflow.db", "exp", f"writer{{number}}",
                           folder / "artifacts", folder / str(number) / "metrics.jsonl", tags={{}})
    with tracked(tracker):
        for step in range({STEPS}):
            tracker.log_metrics({{f"m/{{key}}": number + step for key in range({KEYS})}}, step)
            tracker.flush()

context = multiprocessing.get_context("fork")  # all share one import of MLflow
writers = [context.Process(target=write, args=(number,)) for number in range({WRITERS})]
for writer in writers:
    writer.start()
for writer in writers:
    writer.join()
sys.exit(sum(writer.exitcode for writer in writers))
"""


def test_eight_writers_on_a_fresh_store_lose_no_metric(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    client, runs = client_at(store_uri(tmp_path)), runs_at(store_uri(tmp_path), experiment="exp")
    assert sorted(run.info.run_name for run in runs) == [f"writer{n}" for n in range(WRITERS)]
    for run in runs:
        assert run.info.status == "FINISHED"
        number = int(run.info.run_name.removeprefix("writer"))
        for key in range(KEYS):
            points = client.get_metric_history(run.info.run_id, f"m/{key}")
            assert [(p.step, p.value) for p in points] == [(s, number + s) for s in range(STEPS)]
