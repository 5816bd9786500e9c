"""Rows about what a run writes while it trains."""

import io
import json
import os
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from admm_exp.bench.measurement import Bench, Measurement, Target
from admm_exp.bench.network import subject
from admm_exp.phases.snapshot import Snapshot, write_snapshot
from admm_exp.results import JOURNAL, REPORT, write_atomically
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.tracking.runs import read_runs

TURN_SECONDS = 0.1
SLOWEST_READS = {2_000: 10.0, 10_000: 40.0}
"""Runs in a store -> seconds that reading them may take."""
METRICS = {f"dense/metric_{i}": float(i) for i in range(8)}


def checkpoint(bench: Bench) -> Iterator[Measurement]:
    """Measure a checkpoint of network, momentum and ADMM state, against its bytes alone."""
    name, size = ("resnet20", 32) if bench.is_quick else ("resnet18", 64)
    made = subject(name, size, 1, bench.device)
    tensors: dict[str, Tensor] = {}
    for key, value in made.model.state_dict().items():
        tensors |= {f"admm/model/{key}": value, f"admm/optimizer/{key}": value.clone()}
    for index, target in enumerate(made.constrained.state.targets):
        tensors[f"admm/state/targets.{index}"] = target
    n_bytes = sum(tensor.nbytes for tensor in tensors.values())
    content, numbers = os.urandom(n_bytes), count(1)

    def snapshot() -> None:
        write_snapshot(bench.folder / "ours", Snapshot(next(numbers), {}, {}, tensors))

    def pickled() -> None:
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        write_atomically(bench.folder / "pickled", buffer.getvalue())

    actions = {
        "the bytes alone": lambda: write_atomically(bench.folder / "bytes", content),
        "checkpoint": snapshot,
        "torch.save": pickled,
    }
    yield Measurement(
        "checkpoint",
        f"write {n_bytes / 1e6:.3g} MB to disk, {made.name.partition(',')[0]} with momentum and T",
        bench.take_turns(actions, TURN_SECONDS),
        bench.machine.seconds_for_bytes(2 * n_bytes),
        "every byte read and written in memory",
    )


def logging(bench: Bench) -> Iterator[Measurement]:
    """Measure what the metrics of an epoch cost: sent at once, and buffered as a run does it."""
    folder: Path = bench.folder
    store = f"sqlite:///{folder / 'mlflow.db'}"
    tracker = open_tracker(store, "bench", "bench", folder / "artifacts", folder / JOURNAL, tags={})
    steps = count()

    def sent_at_once() -> None:
        tracker.log_metrics(METRICS, next(steps))
        tracker.flush()

    actions = {
        "sent at once": sent_at_once,
        "buffered": lambda: tracker.log_metrics(METRICS, next(steps)),
    }
    seconds = bench.take_turns(actions, TURN_SECONDS)
    tracker.finish("FINISHED")
    yield Measurement("logging", f"{len(METRICS)} metrics of an epoch to MLflow on SQLite", seconds)


def reading(bench: Bench) -> Iterator[Measurement]:
    """Measure what reading a store costs a run: settings, results and report.json."""
    n = 20 if bench.is_quick else 200
    store, name = f"sqlite:///{bench.folder / 'mlflow.db'}", "bench"
    for number in range(n):
        _finished_run(bench.folder, store, name, number)
    row = Measurement(
        "report",
        f"read {n} finished runs of a store on SQLite",
        bench.take_turns({"read": partial(read_runs, store, name)}, TURN_SECONDS),
        items=n,
    )
    a_run = row.median_seconds("read") / n
    yield row.with_targets(
        *(
            Target(f"seconds for {n_runs:,} runs at this rate", a_run * n_runs, slowest)
            for n_runs, slowest in SLOWEST_READS.items()
        )
    )


def _finished_run(folder: Path, store: str, name: str, number: int) -> None:
    tags = {"kind": "run", "config_hash": str(number)}
    journal = folder / f"{number}-{JOURNAL}"
    tracker = open_tracker(store, name, name, folder / "artifacts", journal, tags=tags)
    settings = {"rho": 1.0, "sparsity": 0.5, "seed": number}
    tracker.log_params(settings | {f"setting_{i}": i for i in range(60)})
    tracker.log_metrics(dict.fromkeys(("final/accuracy", "final/val_accuracy"), 0.5), 0)
    iterations = [{"iteration": i, "primal_residual": 0.1} for i in range(20)]
    dense = {"macs": 1000, "test_accuracy": 0.9}
    report = {"models": {"dense": dense}, "admm": {"iterations": iterations}, "layers": []}
    path = folder / REPORT
    path.write_text(json.dumps(report))
    tracker.log_artifact(path)
    tracker.finish("FINISHED")
