"""Eight processes that write into one store at once."""

import subprocess
import sys
from pathlib import Path

WRITERS, STEPS, KEYS = 8, 40, 5
WRITE = f"""
import multiprocessing, sys, time
from pathlib import Path
import warnings
warnings.simplefilter("ignore")
import mlflow
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.run_status import tracked

def write(number):
    folder = Path(sys.argv[1])
    tracker = open_tracker(sys.argv[2], "exp", f"writer{{number}}",
                           folder / "artifacts", folder / str(number) / "metrics.jsonl", tags={{}})
    with tracked(tracker):
        for step in range({STEPS}):
            while step == {STEPS // 2} and not (folder / "go").exists():
                time.sleep(0.05)
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


def start_writers(folder: Path, uri: str) -> "subprocess.Popen[str]":
    """Start the writers; half way they wait for the file `go`."""
    command = [sys.executable, "-W", "ignore", "-c", WRITE, str(folder), uri]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
