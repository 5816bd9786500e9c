"""Averaging the gradients of two processes, while backward runs and when it is over."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore
from torch.multiprocessing.spawn import spawn
from torch.optim import Optimizer

from admm_exp.bench.loops import PRECISION, bare_loop, large, n_steps
from admm_exp.bench.measurement import Bench, Measurement
from admm_exp.pruning.cost.timing import take_turns
from admm_exp.training.device import use_device
from admm_exp.training.distribution import averaged, joined
from admm_exp.training.gradient_average import average_gradients
from admm_exp.training.optimizer import gradients_of
from admm_exp.training.precision import Stepping, use_precision

N_PROCESSES, ROUNDS, PATIENCE_SECONDS = 2, 5, 300.0
BEHIND, DURING = "behind backward", "during backward"


def averaging(bench: Bench) -> Iterator[Measurement]:
    """Measure steps of two processes; none where they would share one GPU."""
    if bench.device.type == "cuda" and torch.cuda.device_count() < N_PROCESSES:
        return
    spawn(_measure, (bench.folder, bench.device.type), N_PROCESSES)
    seconds = torch.load(bench.folder / "seconds.pt")
    yield Measurement("averaging", f"{N_PROCESSES} processes, {PRECISION}", seconds)


def _measure(rank: int, folder: Path, kind: str) -> None:
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    use_device(device)
    use_precision("float32", device)
    store = PrefixStore("averaging", FileStore(str(folder / "store"), N_PROCESSES))
    with joined(rank, N_PROCESSES, store, device, PATIENCE_SECONDS):
        actions = {}
        for name, prepare in ((BEHIND, average_behind), (DURING, average_gradients)):
            made = large(device)
            optimizer = prepare(made.optimizer())
            stepping, n = Stepping(PRECISION), n_steps(device)
            actions[name] = partial(bare_loop, made, optimizer, stepping, n)
            actions[name]()  # warms up
        seconds = take_turns(actions, ROUNDS)  # one call a turn: as many in both processes
    if rank == 0:
        torch.save(seconds, folder / "seconds.pt")


def average_behind(optimizer: Optimizer) -> Optimizer:
    """Make an optimizer's step begin with the average of all processes' gradients, as one message.

    Args:
        optimizer: The optimizer.
    """
    optimizer.register_step_pre_hook(_average)
    return optimizer


def _average(optimizer: Optimizer, *_: Any) -> None:
    gradients = gradients_of(optimizer)
    flat = averaged(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))
