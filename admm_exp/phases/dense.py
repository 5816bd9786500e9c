"""The dense network: trained once, then shared by every run that asks for the same one."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from admm_exp.errors import CheckpointError
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.observers import Observers
from admm_exp.results import WEIGHTS, EpochRecord, History, PhaseResult, write_atomically
from admm_exp.training.checkpoint import load_into, save_tensors
from admm_exp.training.distribution import copy_from_first_, from_first, is_first

HISTORY = "history.json"
STALE_SECONDS = 3600.0
POLL_SECONDS = 0.5

logger = logging.getLogger(__name__)


def dense_network(
    model: nn.Module,
    entry: Path,
    functions: TrainingFunctions,
    train: Callable[[TrainingFunctions], PhaseResult],
) -> PhaseResult:
    """Load the dense network from the cache, or train it and put it there.

    One process trains while others that want the same network wait for it; a dead one leaves its
    lock free at once, and one that has finished no epoch for an hour is waited for no longer. An
    entry appears whole or not at all, and a damaged one is trained anew. A run that has begun to
    train goes on with it, so that its result does not depend on who else was there meanwhile.

    Args:
        model: The network, freshly initialised; trained or filled in place.
        entry: Folder of the cache entry, named by a hash of all it depends on.
        functions: The user's functions and the observer.
        train: Trains `model` with the functions it is given.

    Returns:
        The phase; `cached` tells whether the network came from the cache.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    has_begun = functions.progress.has_begun("dense")
    with _one_trainer(entry) if is_first() else nullcontext():
        start = perf_counter()
        records = from_first(lambda: None if has_begun else _load(model, entry))
        if records is not None:
            copy_from_first_(model)
            return _tell_again(
                [EpochRecord(**record) for record in records], model, functions, start
            )
        history = _Pulse(entry)
        result = train(replace(functions, observer=Observers((functions.observer, history))))
        if not is_first():
            return result
        try:
            save_tensors(entry / WEIGHTS, model.state_dict())
            records = json.dumps([asdict(record) for record in history.epochs])
            write_atomically(entry / HISTORY, records.encode())
        except OSError as error:  # such as a full disk
            logger.warning("%s cannot be written (%s): other runs train anew", entry, error)
        return result


class _Pulse(History):
    """A history that touches the entry's folder after every epoch: a sign of life to who waits."""

    def __init__(self, entry: Path) -> None:
        super().__init__()
        self._entry = entry

    def epoch_finished(self, record: EpochRecord) -> None:
        """Remember an epoch."""
        super().epoch_finished(record)
        with suppress(OSError):  # such as a full disk
            self._entry.mkdir(exist_ok=True)
            os.utime(self._entry)


@contextmanager
def _one_trainer(entry: Path) -> Iterator[None]:
    """Wait for whoever trains the same network, as long as it lives.

    Clocks of two machines may differ, so what counts is that the folder's time changes.
    """
    lock = FileLock(entry.with_suffix(".lock"))
    pulse, seen, is_told = _pulse_of(entry), monotonic(), False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=POLL_SECONDS)
        except Timeout:
            now = _pulse_of(entry)
            if now != pulse:
                pulse, seen = now, monotonic()
            if not is_told:
                is_told = True
                logger.warning("another process trains the same dense network: waiting for it")
            if monotonic() - seen > STALE_SECONDS:
                logger.warning(
                    "the process that holds %s finished no epoch for %g s: training without it",
                    *(lock.lock_file, STALE_SECONDS),
                )
                break
    try:
        yield
    finally:
        lock.release()


def _pulse_of(entry: Path) -> int:
    return entry.stat().st_mtime_ns if entry.exists() else 0


def _load(model: nn.Module, entry: Path) -> list[dict[str, Any]] | None:
    """Fill the network and return its epochs; None if the entry is missing or damaged."""
    try:
        records = [EpochRecord(**record) for record in json.loads((entry / HISTORY).read_text())]
        load_into(model, entry / WEIGHTS)
    except (OSError, ValueError, TypeError, CheckpointError):
        return None
    return [asdict(record) for record in records]


def _tell_again(
    records: list[EpochRecord], model: nn.Module, functions: TrainingFunctions, start: float
) -> PhaseResult:
    functions.observer.phase_started("dense", 0)
    functions.progress.keep("dense", model)
    for record in records:
        functions.observer.epoch_finished(record)
    result = PhaseResult("dense", perf_counter() - start, 0, cached=True)
    functions.observer.phase_finished(result)
    return result
