"""The dense network: trained once, then shared by every run that asks for the same one."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

from filelock import FileLock
from torch import nn

from admm_exp.errors import CheckpointError
from admm_exp.phases.parts import Observers, Parts
from admm_exp.results import EpochRecord, History, PhaseResult
from admm_exp.training.checkpoint import load_into, save_tensors, write_atomically

WEIGHTS, HISTORY = "model.safetensors", "history.json"


def dense_network(
    model: nn.Module, entry: Path, parts: Parts, train: Callable[[Parts], PhaseResult]
) -> PhaseResult:
    """Load the dense network from the cache, or train it and put it there.

    One process trains while others that want the same network wait for it; an entry appears
    whole or not at all, and a damaged one is trained anew.

    Args:
        model: The network, freshly initialised; trained or filled in place.
        entry: Folder of the cache entry, named by a hash of all it depends on.
        parts: The user's functions and the observer.
        train: Trains `model` with the parts it is given.

    Returns:
        The phase; `cached` tells whether the network came from the cache.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(entry.with_suffix(".lock")):
        if not parts.progress.is_finished("dense") and (result := _from_cache(model, entry, parts)):
            return result
        history = History()
        result = train(replace(parts, observer=Observers((parts.observer, history))))
        save_tensors(entry / WEIGHTS, model.state_dict())
        records = json.dumps([asdict(record) for record in history.epochs])
        write_atomically(entry / HISTORY, records.encode())
        return result


def _from_cache(model: nn.Module, entry: Path, parts: Parts) -> PhaseResult | None:
    start = perf_counter()
    try:
        records = [EpochRecord(**record) for record in json.loads((entry / HISTORY).read_text())]
        load_into(model, entry / WEIGHTS)
    except (OSError, ValueError, TypeError, CheckpointError):
        return None
    parts.observer.phase_started("dense", 0)
    parts.progress.keep("dense", model)
    for record in records:
        parts.observer.epoch_finished(record)
    result = PhaseResult("dense", perf_counter() - start, 0, cached=True)
    parts.observer.phase_finished(result)
    return result
