"""Rows about whole commands, as processes of their own."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path

from admm_exp.bench.many_runs import copy_runs
from admm_exp.bench.measurement import Bench, Measurement, Target
from admm_exp.errors import TrainingError
from admm_exp.pruning.cost.timing import take_turns

SLOWEST_HELP_SECONDS, SLOWEST_JOB_SECONDS = 2.0, (20.0, 15.0)
QUICK_ROUNDS, ROUNDS, JOB_ROUNDS = 2, 10, 3
SLOWEST_OVERHEAD_SECONDS, N_JOBS = 1.5, 9
LATEST_SECONDS, N_RUNS = 1.0, 10_000
NEXT_TO_NOTHING = (
    "schedule.dense.epochs=1",
    "schedule.admm_iterations=1",
    "schedule.finetune.epochs=1",
)
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
    row = Measurement(
        "startup", "a process from start to end", _turns(bench, actions, _rounds(bench))
    )
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
    row = Measurement("job", "admm-exp, the default job", _turns(bench, actions, JOB_ROUNDS))
    targets = zip(actions, SLOWEST_JOB_SECONDS, strict=True)
    yield row.with_targets(
        *(
            Target(f"seconds, {name}", row.median_seconds(name), slowest)
            for name, slowest in targets
        )
    )


def sweep(bench: Bench) -> Iterator[Measurement]:
    """Measure a sweep of four short jobs, one at a time and two at a time."""
    swept = partial(_swept, bench.folder, count(), "seed=0,1,2,3", *SHORT)
    actions = {
        "one at a time": swept,
        "two at a time": partial(swept, "hydra/launcher=process", "hydra.launcher.n_jobs=2"),
    }
    yield Measurement(
        "sweep", "four short jobs on digits, wall time", take_turns(actions, JOB_ROUNDS), items=4
    )


def overhead(bench: Bench) -> Iterator[Measurement]:
    """Measure what one more job of a sweep costs where there is next to nothing to train."""
    swept, numbers = partial(_swept, bench.folder, count()), range(1, N_JOBS + 1)
    every = ",".join(f"0.{number:02d}" for number in numbers)
    actions = {
        "1 job": partial(swept, "rho=0.01", *NEXT_TO_NOTHING),
        f"{N_JOBS} jobs": partial(swept, f"rho={every}", *NEXT_TO_NOTHING),
    }
    row = Measurement(
        "overhead",
        "a sweep of jobs on digits, an epoch a phase",
        _turns(bench, actions, JOB_ROUNDS),
    )
    first, last = (row.median_seconds(name) for name in actions)
    a_job = (last - first) / (N_JOBS - 1)
    yield row.with_targets(Target("seconds a further job", a_job, SLOWEST_OVERHEAD_SECONDS))


def first(bench: Bench) -> Iterator[Measurement]:
    """Measure how much later a sweep comes to its first job where many runs are stored.

    Its one job is finished already, so that it looks for it and ends without training.
    """
    actions = {}
    for n_runs in (0, N_RUNS):
        folder = bench.folder / str(n_runs)
        folder.mkdir()
        swept = _command(folder, "-m", "admm_exp", "-m", "rho=0.01", *NEXT_TO_NOTHING)
        swept()
        copy_runs(folder, n_runs)
        actions[f"{n_runs + 1:,} stored"] = swept
    row = Measurement(
        "first", "a sweep whose one job is finished already", _turns(bench, actions, JOB_ROUNDS)
    )
    few, many = (row.median_seconds(name) for name in actions)
    yield row.with_targets(
        Target(f"seconds later among {N_RUNS:,} runs", many - few, LATEST_SECONDS)
    )


def _swept(folder: Path, numbers: Iterator[int], *settings: str) -> None:
    own = folder / str(next(numbers))
    own.mkdir()
    _command(own, "-m", "admm_exp", "-m", *settings)()


def _turns(
    bench: Bench, actions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Time commands in turns, by the wall clock or by the CPU time of their processes."""
    return take_turns(actions, rounds, clock=_children_time if bench.clock else None)


def _children_time() -> float:
    """Add up the CPU time of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
