"""Rows about what a run writes while it trains."""

import io
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from admm_exp.bench.measurement import Bench, Measurement
from admm_exp.bench.network import subject
from admm_exp.phases.snapshot import Snapshot, write_snapshot
from admm_exp.results import JOURNAL
from admm_exp.tracking.mlflow_tracker import open_tracker
from admm_exp.training.checkpoint import write_atomically

TURN_SECONDS = 0.1
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
