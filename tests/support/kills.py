"""Kill runs with SIGKILL, resume them, compare: `python tests/kills.py 200` at random moments.

`python tests/kills.py 200 varied` takes another method, granularity or schedule each time.
`python tests/kills.py chain [SETTING ...]` kills one run at one chosen moment after another.
`python tests/kills.py full` fills the disk under runs; it mounts a small one for each.

Every run is a fork of this process, which has everything imported, so that a run takes seconds.
"""

import contextlib
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from admm_exp.app.preloaded import modules

JOB = (
    "schedule.dense.epochs=2",
    "schedule.admm_iterations=2",
    "schedule.admm_epoch=2",
    "schedule.finetune.epochs=2",
    "schedule.batch_size=128",
    "sparsity=0.4",
    "hydra.run.dir=outputs/runs/it",
)
VARIED = {
    "admm": (),
    "adaptive rho": ("rho_policy=balancing", "schedule.stopping=residuals"),
    "proximal": ("schedule.w_step=proximal", "schedule.optimizer.name=adamw", "metric=random"),
    "sparsity ramp": ("schedule.sparsity_ramp=0.5", "schedule.relaxation=1.5"),
    "distillation": tuple(
        f"schedule.{phase}.weight=0.5" for phase in ("admm_distillation", "finetune.distillation")
    ),
    "reduced": ("schedule.recalibration_batches=0", "metric=fpgm", "schedule.w_step=reduced"),
    "elements": ("granularity=element",),
    "filters": ("granularity=filter", "schedule.stopping=support"),
    "gradual": ("method=gradual",),
    "group lasso": ("method=group_lasso",),
    "one-shot": ("method=oneshot", "metric=taylor"),
    "scratch": ("method=scratch",),
}
"""What is changed in the job, by name."""
RUN = Path("outputs/runs/it")
BALLAST = Path("outputs/ballast")
TIMES = ("seconds", "latency_ms", "latency_spread_ms", "latency")
LONGEST_SECONDS = 900


def preload() -> None:
    """Import what a run imports, before any thread is started."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules():
            importlib.import_module(name)


def start(folder: Path, *arguments: str, before: Callable[[], None] | None = None) -> int:
    """Fork a process that runs the command in a folder; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        with open("output.txt", "a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        sys.argv = ["admm-exp", *arguments]
        if before is not None:
            before()
        from admm_exp.app import main

        main()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = 0 if end.code in (None, 0) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk() -> None:
    """Leave no room where this process keeps its runs."""
    with contextlib.suppress(OSError), BALLAST.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def at(name: str, call: int, act: Callable[[], None]) -> Callable[[], None]:
    """Make a process do something at a call of a function, counted from 1.

    Args:
        name: The function as `module:attribute`.
        call: Which call.
        act: What to do before it.
    """

    def arm() -> None:
        module, _, attribute = name.partition(":")
        owner = importlib.import_module(module)
        original, calls = getattr(owner, attribute), 0

        def watched(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                act()
            return original(*arguments, **options)

        setattr(owner, attribute, watched)

    return arm


def wait(pid: int, seconds: float = LONGEST_SECONDS) -> int | None:
    """Wait for a process; return its exit code, negative for a signal, None if it still runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def kill(pid: int) -> None:
    """Kill a process and bury it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def finish(folder: Path, *arguments: str) -> None:
    """Run the command to its end."""
    code = wait(start(folder, *arguments))
    assert code == 0, (code, (folder / "output.txt").read_text()[-3000:])


def resume(folder: Path, job: Sequence[str] = JOB) -> None:
    """Go on with the run of a folder, or start it if it was killed before it had a folder."""
    started = (folder / RUN / ".hydra" / "config.yaml").is_file()
    finish(folder, *([f"resume={RUN}"] if started else job))


def results(folder: Path) -> dict[str, Any]:
    """Read all that must be the same: weights, report without times, curves."""
    report = json.loads((folder / RUN / "report.json").read_text())
    weights = (folder / RUN / "model.safetensors").read_bytes()
    for origin in ("mlflow", "environment", "config"):
        del report[origin]
    return {"weights": weights, "report": timeless(report), "curves": curves(folder)}


def timeless(value: Any) -> Any:
    """Leave out times."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def curves(folder: Path) -> list[tuple[Any, ...]]:
    """Read the curves of the one experiment that MLflow shows as finished."""
    with closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as database:
        ((run_id,),) = database.execute(
            "SELECT run_uuid FROM runs JOIN tags USING (run_uuid) "
            "WHERE status = 'FINISHED' AND key = 'kind' AND value = 'run'"
        ).fetchall()
        points = database.execute(
            "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step", (run_id,)
        ).fetchall()
    return [p for p in points if "seconds" not in p[0] and "latency" not in p[0]]


def new_folder(parent: Path, name: str, store: Path | None) -> Path:
    """Make a folder for runs, with a database whose tables are there."""
    folder = parent / name
    (folder / "outputs").mkdir(parents=True)
    if store is not None:
        shutil.copy(store, folder / "outputs" / "mlflow.db")
    return folder


def empty_store(folder: Path, path: Path) -> Path:
    """Copy the database of a folder without its runs."""
    with closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as source:
        source.execute("VACUUM INTO ?", (str(path),))
    with closing(sqlite3.connect(path)) as copy:
        copy.execute("PRAGMA journal_mode=WAL")
        copy.execute("PRAGMA foreign_keys=OFF")
        for table in ("metrics", "latest_metrics", "params", "tags", "inputs", "runs"):
            copy.execute(f"DELETE FROM {table}")
        copy.commit()
    return path


def phase_of(folder: Path) -> str:
    """Say how far a killed run had come."""
    run_dir = folder / RUN
    if (run_dir / "report.json").exists():
        return "after the report"
    if (run_dir / "model.json").exists():
        return "report"
    journal = run_dir / "metrics.jsonl"
    text = journal.read_text() if journal.exists() else ""
    for phase in ("finetune", "admm", "dense"):
        if f'"{phase}/' in text:
            return phase
    return "before training"


CHAIN = (
    ("before any epoch", "admm_exp.experiment.functions:train_epoch", 1),
    ("dense, end of epoch 2", "admm_exp.training.loop:as_evaluation", 2),
    ("half a checkpoint", "os:fsync", 2),
    ("Z and U update", "admm_exp.pruning.constrained:update_", 2),
    ("cut", "admm_exp.experiment.stages:prune", 1),
    ("finetune, end of epoch 2", "admm_exp.training.loop:as_evaluation", 2),
    ("report", "admm_exp.experiment.outputs:write_report", 1),
)
"""Moments of death, each in the process that resumes after the one before."""


def chain(*settings: str) -> None:
    """Kill one run at all moments of the chain, resume it to its end, compare."""
    preload()
    job = (*JOB, *settings)
    with TemporaryDirectory() as name:
        reference = new_folder(Path(name), "reference", None)
        finish(reference, *job)
        killed = new_folder(Path(name), "killed", empty_store(reference, Path(name) / "empty.db"))
        for moment, function, call in CHAIN:
            has_run = (killed / RUN).exists()
            arguments = [f"resume={RUN}"] if has_run else job
            code = wait(start(killed, *arguments, before=at(function, call, die)))
            output = (killed / "output.txt").read_text()
            assert code == -signal.SIGKILL, (moment, code, output[-3000:])
        resume(killed)
        found, expected = results(killed), results(reference)
        differing = [key for key in expected if found[key] != expected[key]]
        if differing:
            from admm_exp.experiment.repeat import compare_runs

            print("\n".join(compare_runs(reference / RUN, killed / RUN)))
            print(set(found["curves"]) ^ set(expected["curves"]))
    print(json.dumps({"kills": len(CHAIN), "differing": differing}))


FULL = (
    ("dense, end of epoch 2", "admm_exp.training.loop:as_evaluation", 2),
    ("cut", "admm_exp.experiment.stages:prune", 1),
    ("finetune, epoch 2", "admm_exp.experiment.functions:train_epoch", 8),
    ("networks", "admm_exp.experiment.outputs:save_model", 1),
    ("report", "admm_exp.experiment.outputs:write_report", 1),
)
"""Moments from which on the disk is full, each in a run of its own."""


def full() -> None:
    """Let the disk of a run be full from a moment on; make room, resume it, compare."""
    preload()
    differing, told = [], {}
    with TemporaryDirectory() as name:
        reference = new_folder(Path(name), "reference", None)
        finish(reference, *JOB)
        store, expected = empty_store(reference, Path(name) / "empty.db"), results(reference)
        for moment, function, call in FULL:
            folder = Path(name) / moment
            (folder / "outputs").mkdir(parents=True)
            mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder / "outputs")]
            subprocess.run(mount, check=True)
            try:
                shutil.copy(store, folder / "outputs" / "mlflow.db")
                code = wait(start(folder, *JOB, before=at(function, call, fill_disk)))
                assert code == 1, (moment, code)
                told[moment] = (folder / "output.txt").read_text().splitlines()
                (folder / BALLAST).unlink()
                resume(folder)
                found = results(folder)
                differing += [(moment, key) for key in expected if found[key] != expected[key]]
            finally:
                subprocess.run(["umount", "-l", str(folder / "outputs")], check=True)
    print(json.dumps({"told": told, "differing": differing}))


def undisturbed(folder: Path, job: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Run a job to its end; return how long it took, and its results."""
    begin = time.monotonic()
    finish(folder, *job)
    return time.monotonic() - begin, results(folder)


def main(count: int, seed: int, changes: Mapping[str, Sequence[str]]) -> None:
    """Kill that many runs, each with the next of the changes, and print the tally."""
    preload()
    generator = random.Random(seed)
    tally: Counter[str] = Counter()
    known: dict[str, tuple[float, dict[str, Any]]] = {}
    differing = 0
    with TemporaryDirectory() as name:
        reference = new_folder(Path(name), "reference", None)
        finish(reference, *JOB)  # makes the tables of the database
        store = empty_store(reference, Path(name) / "empty.db")
        for index, change in zip(range(count), itertools.cycle(changes), strict=False):
            job = (*JOB, *changes[change])
            if change not in known:
                known[change] = undisturbed(new_folder(Path(name), change, store), job)
            length, expected = known[change]
            while True:
                folder = new_folder(Path(name), f"killed-{index}", store)
                begin = time.monotonic()
                pid = start(folder, *job)
                if wait(pid, generator.uniform(0.0, length)) is None:
                    kill(pid)
                    break
                length = min(length, time.monotonic() - begin)  # it had ended: no kill
                shutil.rmtree(folder)
            phase = phase_of(folder)
            resume(folder, job)
            found = results(folder)
            others = [key for key in expected if found[key] != expected[key]]
            differing += bool(others)
            tally[phase] += 1
            verdict = f"OTHER {', '.join(others)}" if others else "same"
            print(f"{index + 1:4d}  {change}, killed in: {phase:<17} {verdict}", flush=True)
            shutil.rmtree(folder)
    print(f"{count} kills, {differing} with another result; {dict(tally)}")
    sys.exit(differing > 0)


if __name__ == "__main__":
    if sys.argv[1:2] in (["chain"], ["full"]):
        {"chain": chain, "full": full}[sys.argv[1]](*sys.argv[2:])
        sys.exit()
    changes = VARIED if sys.argv[2:] == ["varied"] else {"admm": ()}
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, seed=0, changes=changes)
