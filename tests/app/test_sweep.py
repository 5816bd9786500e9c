"""A sweep as a user runs it: parent, children, baseline, failures, reuse, signals."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, clean_environment, run_command
from support.stores import runs_at, store_of

TINY = (
    "model=small_cnn",
    "schedule.dense.epochs=1",
    "schedule.admm_iterations=1",
    "schedule.admm_epoch=1",
    "schedule.finetune.epochs=0",
    "device=cpu",
)
GRID = ("-m", "rho=0.1,0.5", "sparsity=0.3,0.5")
PATIENCE_SECONDS = 180
MOODY = '''
import os, signal
from torch import nn

class Moody(nn.Sequential):
    """Trains, raises or dies in its first training step."""

    def __init__(self, mood, num_classes, in_channels):
        super().__init__(
            nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
        self.mood = mood

    def forward(self, x):
        if self.training and len(x) > 2 and self.mood == "raise":
            raise RuntimeError("a bad mood")
        if self.training and len(x) > 2 and self.mood == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)
'''

START = """
import re
import signal
from admm_exp.app import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not so in background jobs
    main()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def grid(work: Path) -> Done:
    return run_command(work, *GRID, *TINY)


@pytest.fixture(scope="module")
def again(work: Path, grid: Done) -> Done:
    return run_command(work, *GRID, *TINY)


@pytest.fixture(scope="module")
def moody(work: Path, grid: Done) -> Done:
    """A sweep of four jobs in processes of their own: two end well, one raises, one dies."""
    (work / "outputs" / "moody.py").write_text(MOODY)
    return run_command(
        work,
        *("-m", "hydra/launcher=process", "+model.mood=good,raise,die,fine"),
        *("model._target_=moody.Moody", "~model.width", *TINY, "experiment_name=moody"),
        env={"PYTHONPATH": str(work / "outputs")},
    )


def of_kind(work: Path, kind: str, experiment: str = "admm_exp") -> list[Any]:
    return runs_at(store_of(work), f"tags.kind = '{kind}'", experiment)


def rows_of(work: Path, index: int) -> list[dict[str, Any]]:
    folders = sorted((work / "outputs" / "sweeps").iterdir())
    rows: list[dict[str, Any]] = json.loads((folders[index] / "sweep.json").read_text())
    return rows


def test_a_sweep_is_one_parent_with_one_named_child_a_job(work: Path, grid: Done) -> None:
    assert grid.returncode == 0, grid.stderr
    (parent,) = of_kind(work, "sweep")
    children = of_kind(work, "run")
    names = [f"rho={rho},sparsity={s}" for rho in (0.1, 0.5) for s in (0.3, 0.5)]
    assert [run.info.run_name for run in children] == names
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}


def test_the_parent_tells_grid_command_and_commit(work: Path, grid: Done) -> None:
    (parent,) = of_kind(work, "sweep")
    assert parent.info.run_name == parent.data.tags["grid"] == "rho=0.1,0.5 sparsity=0.3,0.5"
    assert "-m rho=0.1,0.5 sparsity=0.3,0.5 model=small_cnn" in parent.data.tags["command"]
    assert len(parent.data.tags["mlflow.source.git.commit"]) == 40


def test_the_parent_holds_the_table_of_all_jobs(work: Path, grid: Done) -> None:
    (parent,) = of_kind(work, "sweep")
    note, rows = parent.data.tags["mlflow.note.content"], rows_of(work, 0)
    assert len(rows) == 4
    for row in rows:
        report = json.loads((Path(row["run_dir"]) / "report.json").read_text())
        assert row["accuracy"] == report["models"]["finetuned"]["test_accuracy"]
        assert f"| {row['run_name']} | {row['accuracy']:.2%} |" in note
    assert {
        path.name for path in (work / "outputs" / "artifacts" / parent.info.run_id).rglob("*.*")
    } >= {
        "sweep.csv",
        "sweep.json",
        "sweep.md",
    }


def test_the_best_run_per_sparsity_is_chosen_on_validation_accuracy(work: Path, grid: Done) -> None:
    (parent,) = of_kind(work, "sweep")
    for sparsity in (0.3, 0.5):
        rows = [row for row in rows_of(work, 0) if row["sparsity"] == sparsity]
        best = max(rows, key=lambda row: row["val_accuracy"])
        said = parent.data.tags[f"best.{sparsity}"]
        assert said.startswith(f"rho={best['rho']:g}, val +")
        assert re.search(r"\(n 1\) points over rho=[\d.]+, test [\d.]+%$", said)
        assert f"* **sparsity {sparsity}**: {said}" in parent.data.tags["mlflow.note.content"]


def test_figures_are_drawn_of_the_best_runs_alone_and_reach_mlflow(work: Path, grid: Done) -> None:
    (parent,) = of_kind(work, "sweep")
    for row in rows_of(work, 0):
        best = parent.data.tags[f"best.{row['sparsity']}"]
        run_dir, is_best = Path(row["run_dir"]), best.startswith(f"rho={row['rho']:g},")
        kept = work / "outputs" / "artifacts" / row["run_id"] / "artifacts"
        for folder in (run_dir, kept):
            names = {path.name for path in (folder / "figures").glob("*.png")}
            assert names == ({"residuals.png", "pruning.png", "training.png"} if is_best else set())
            assert ("![" in (folder / "report.md").read_text()) == is_best


def test_all_jobs_point_to_one_baseline_run(work: Path, grid: Done) -> None:
    (baseline,) = of_kind(work, "baseline")
    tags = [run.data.tags["baseline_run_id"] for run in of_kind(work, "run")]
    assert tags == [baseline.info.run_id] * 4
    row = rows_of(work, 0)[0]
    assert baseline.data.metrics["final/accuracy"] == round(row["dense_accuracy"], 6)
    assert "dense/train_loss" in baseline.data.metrics
    assert baseline.data.params["model"] == "small_cnn"


def test_the_terminal_names_each_job_as_it_starts_and_ends(grid: Done) -> None:
    lines = [line.split() for line in grid.stdout.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["started"]] == [
        f"rho={rho},sparsity={s}" for rho in (0.1, 0.5) for s in (0.3, 0.5)
    ]
    assert "[4/4] finished" in grid.stdout
    assert grid.stderr == ""


def test_the_same_command_runs_nothing_again(work: Path, grid: Done, again: Done) -> None:
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("reused") == 8  # a line and a row each
    assert len(of_kind(work, "run")) == 4
    assert [run.info.status for run in of_kind(work, "sweep")] == ["FINISHED"]


@pytest.mark.long
def test_another_grid_runs_what_is_missing_and_force_runs_all(tmp_path: Path) -> None:
    first = run_command(tmp_path, "-m", "rho=0.1", "sparsity=0.3", *TINY)
    assert first.returncode == 0, first.stderr
    more = run_command(tmp_path, "-m", "rho=0.1", "sparsity=0.3,0.6", *TINY)
    assert " reused    rho=0.1,sparsity=0.3 " in more.stdout
    assert " finished  rho=0.1,sparsity=0.6 " in more.stdout
    forced = run_command(tmp_path, "-m", "rho=0.1", "sparsity=0.3", *TINY, "force=true")
    assert "reused" not in forced.stdout
    assert len(of_kind(tmp_path, "run")) == 3
    assert len(of_kind(tmp_path, "baseline")) == 1


@pytest.mark.long
def test_a_job_that_fails_or_dies_costs_itself_alone(work: Path, moody: Done) -> None:
    assert moody.returncode == 1
    parent, *children = runs_at(store_of(work), "tags.kind != 'baseline'", "moody")
    statuses = {run.info.run_name: run.info.status for run in children}
    assert statuses == {
        "model.mood=good": "FINISHED",
        "model.mood=raise": "FAILED",
        "model.mood=die": "KILLED",
        "model.mood=fine": "FINISHED",
    }
    assert parent.info.status == "FAILED"


@pytest.mark.long
def test_each_failure_is_one_sentence_when_it_happens_and_at_the_end(moody: Done) -> None:
    assert "Traceback" not in moody.stderr
    for name, reason in (
        ("model.mood=raise", "RuntimeError: a bad mood"),
        ("model.mood=die", "its process was killed (SIGKILL): out of memory?"),
    ):
        lines = [line for line in moody.stderr.splitlines() if line.endswith(f": {reason}")]
        assert len(lines) == 2
        assert all(name in line for line in lines)
    assert "2 of 4 jobs failed: model.mood=raise; model.mood=die" in moody.stderr


@pytest.mark.long
def test_the_traceback_of_a_failed_job_stays_in_its_folder(work: Path, moody: Done) -> None:
    (path,) = (work / "outputs" / "sweeps").glob("*/*/error.txt")
    assert "Traceback" in path.read_text()
    assert "a bad mood" in path.read_text()


def test_a_wrong_value_anywhere_in_the_grid_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    done = run_command(tmp_path, "-m", "sparsity=0.3,1.5")
    assert done.returncode == 1
    assert done.stderr == "error: sparsity must be in [0, 1), got 1.5\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_marks_the_sweep_and_its_jobs_killed(work: Path, grid: Done) -> None:
    process = start_long_sweep(work, "interrupted")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.endswith("interrupted\n")
    assert "Traceback" not in stderr
    assert kinds(work, "interrupted", "KILLED") == ["run", "run", "sweep"]


@pytest.mark.slow
def test_no_run_of_a_sweep_that_was_shot_stays_running(work: Path, grid: Done) -> None:
    process = start_long_sweep(work, "shot")
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: kinds(work, "shot", "KILLED") == ["run", "run"])
    assert kinds(work, "shot", "RUNNING") == ["sweep"]  # nobody is left to close it
    assert run_command(work, *TINY, "experiment_name=shot").returncode == 0
    assert kinds(work, "shot", "RUNNING") == []
    assert kinds(work, "shot", "KILLED") == ["run", "run", "sweep"]


def start_long_sweep(work: Path, experiment: str) -> subprocess.Popen[str]:
    """Start a sweep of two endless jobs, and wait until both train."""
    script = work / "outputs" / "start.py"
    script.write_text(START)
    endless = ("schedule.admm_iterations=5000", "rho_policy=constant")
    words = ("-m", "hydra/launcher=process", "sparsity=0.3,0.5", *TINY, *endless)
    process = subprocess.Popen(
        [sys.executable, str(script), *words, f"experiment_name={experiment}"],
        cwd=work,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def trains() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return kinds(work, experiment, "RUNNING") == ["run", "run", "sweep"]

    try:
        wait_until(trains)
    except AssertionError:
        process.kill()
        process.communicate()
        raise
    return process


def kinds(work: Path, experiment: str, status: str) -> list[str]:
    runs = runs_at(store_of(work), f"attributes.status = '{status}'", experiment)
    return sorted(run.data.tags["kind"] for run in runs)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {PATIENCE_SECONDS} s"
        time.sleep(0.3)
