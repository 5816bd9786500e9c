"""Rows about whole commands, as processes of their own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from admm_exp.bench.measurement import Bench, Measurement, Target
from admm_exp.errors import TrainingError
from admm_exp.pruning.cost.timing import take_turns

SLOWEST_HELP_SECONDS, SLOWEST_JOB_SECONDS = 2.0, (20.0, 15.0)
QUICK_ROUNDS, ROUNDS, JOB_ROUNDS = 2, 10, 3
SHORT = (
    "schedule.dense.epochs=2",
    "schedule.admm_iterations=2",
    "schedule.admm_epoch=1",
    "schedule.finetune.epochs=2",
)


def startup(bench: Bench) -> Iterator[Measurement]:
    """Measure how long a person waits for help and for an error."""
    actions = {
        "python": _command(bench.folder, "-c", "pass"),
        "--help": _command(bench.folder, "-m", "admm_exp", "--help"),
        "wrong value": _command(bench.folder, "-m", "admm_exp", "sparsity=2", code=1),
    }
    row = Measurement("startup", "a process from start to end", take_turns(actions, _rounds(bench)))
    yield row.with_targets(
        *(
            Target(f"seconds of {name}", row.median_seconds(name), SLOWEST_HELP_SECONDS)
            for name in ("--help", "wrong value")
        )
    )


def job(bench: Bench) -> Iterator[Measurement]:
    """Measure the default job, with the dense network trained and with it reused."""
    numbers = count()

    def fresh() -> None:
        folder = bench.folder / str(next(numbers))
        folder.mkdir()
        _command(folder, "-m", "admm_exp")()

    reused = bench.folder / "reused"
    reused.mkdir()
    again = _command(reused, "-m", "admm_exp")
    again()
    actions = {"dense network trained": fresh, "dense network reused": again}
    row = Measurement("job", "admm-exp, the default job", take_turns(actions, JOB_ROUNDS))
    targets = zip(actions, SLOWEST_JOB_SECONDS, strict=True)
    yield row.with_targets(
        *(
            Target(f"seconds, {name}", row.median_seconds(name), slowest)
            for name, slowest in targets
        )
    )


def sweep(bench: Bench) -> Iterator[Measurement]:
    """Measure a sweep of four short jobs, one at a time and two at a time."""
    numbers = count()

    def swept(*settings: str) -> Callable[[], None]:
        def run() -> None:
            folder = bench.folder / str(next(numbers))
            folder.mkdir()
            jobs = ("-m", "seed=0,1,2,3", *SHORT, *settings)
            _command(folder, "-m", "admm_exp", *jobs)()

        return run

    actions = {
        "one at a time": swept(),
        "two at a time": swept("hydra/launcher=process", "hydra.launcher.n_jobs=2"),
    }
    yield Measurement(
        "sweep", "four short jobs on digits", take_turns(actions, JOB_ROUNDS), items=4
    )


def _rounds(bench: Bench) -> int:
    return QUICK_ROUNDS if bench.is_quick else ROUNDS


def _command(folder: Path, *arguments: str, code: int = 0) -> Callable[[], None]:
    """Run Python in a folder, and insist on its exit code."""

    def run() -> None:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != code:
            words = " ".join(arguments)
            raise TrainingError(
                f"python {words} ended with {done.returncode}: {done.stderr[-300:]}"
            )

    return run
