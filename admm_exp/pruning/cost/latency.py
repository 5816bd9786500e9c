"""How long networks take, measured side by side."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, comb
from statistics import median
from typing import Any

import torch
from torch import nn

from admm_exp.pruning.cost.cost import evaluating
from admm_exp.pruning.cost.timing import take_turns
from admm_exp.pruning.dependency.inputs import accepted_form, arguments, device_of
from admm_exp.pruning.dependency.structures import map_tensors

LATENCY_ROUNDS = 15
"""Turns that each model gets at the clock, per batch size."""
ROUNDS_AT_ONCE, MOST_ROUNDS, MOST_SECONDS = 6, 60, 10.0
"""Rounds of two networks that are compared: so many more until the ratio is known well enough."""
TURN_SECONDS, FEWEST_PASSES, MOST_PASSES = 0.03, 2, 10
"""About how long the turn of a network in a round is, and in how many passes."""
WARM_UPS = 3
LARGEST_THRESHOLD_BYTES = 2**25
PRECISION = 0.01
CONFIDENCE = 0.95


@dataclass(frozen=True)
class LatencyRatio:
    """How long a network takes as a fraction of another, measured side by side.

    Attributes:
        value: Median of the ratios of all rounds.
        spread: Half of the interval that holds the true median with 95 % confidence.
        rounds: How often the two were compared.
    """

    value: float
    spread: float
    rounds: int


def measure_latency_ms(
    models: Mapping[str, nn.Module],
    sample: Any,
    batch_sizes: Sequence[int],
    min_seconds: float,
    clock: Callable[[], float] | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Time the forward passes of several models side by side.

    One number is the mean time of a forward pass of the whole batch in one turn, in inference and
    eval mode. The models take turns, first the one, then the other first,
    so that a machine that slows down or warms up does so for all of them.

    Args:
        models: Name -> network, all on one device; left as they are.
        sample: (1, C, H, W) on that device, or other inputs of one sample, repeated to fill a
            batch.
        batch_sizes: Each at least 1.
        min_seconds: Time spent on every model and batch size, > 0.
        clock: Seconds since some moment; None for that of `undisturbed_clock`.

    Returns:
        Name -> {batch size as text: milliseconds, one number a turn}.

    Raises:
        ValueError: A batch size below 1, or `min_seconds` not positive.
    """
    if min(batch_sizes, default=1) < 1:
        raise ValueError(f"batch_sizes must be at least 1, got {list(batch_sizes)}")
    if not min_seconds > 0:
        raise ValueError(f"min_seconds must be > 0, got {min_seconds}")
    _keep_freed_memory()
    clock = clock or undisturbed_clock(device_of(sample))
    latency_ms: dict[str, dict[str, list[float]]] = {name: {} for name in models}
    with evaluating(*models.values()), torch.inference_mode():
        for batch_size in batch_sizes:
            passes = {name: _pass_of(model, sample, batch_size) for name, model in models.items()}
            seconds = take_turns(passes, LATENCY_ROUNDS, min_seconds / LATENCY_ROUNDS, clock)
            for name, times in seconds.items():
                latency_ms[name][str(batch_size)] = [1000 * t for t in times]
    return latency_ms


def ratio_of_turns(small: Sequence[float], dense: Sequence[float]) -> LatencyRatio:
    """Compare two networks that took turns, turn by turn.

    Args:
        small: Times of one, at least 6.
        dense: Those of the other, in the same turns.
    """
    ratios = [s / d for s, d in zip(small, dense, strict=True)]
    return LatencyRatio(median(ratios), half_interval(ratios), len(ratios))


def compare_latency(
    small: nn.Module,
    dense: nn.Module,
    sample: Any,
    batch_size: int,
    clock: Callable[[], float] | None = None,
) -> LatencyRatio:
    """Measure how long a network takes as a fraction of another.

    The two take turns of several passes, and in each round the fastest pass of one is compared
    with the fastest of the other: a machine that slows down does so for both, what else it does
    only adds time, and a pass that finds the caches of another network does not count. Rounds are
    added until the ratio is known within 0.01, 60 at most, and none after 10 seconds.

    Args:
        small: The network; left as it is.
        dense: The other, on the same device; left as it is.
        sample: (1, C, H, W) on that device, or other inputs of one sample, repeated to fill the
            batch.
        batch_size: At least 1.
        clock: Seconds since some moment; None for that of `undisturbed_clock`.
    """
    clock = clock or undisturbed_clock(device_of(sample))
    both = {"small": small, "dense": dense}
    passes = {name: _pass_of(model, sample, batch_size) for name, model in both.items()}
    rounds: dict[str, list[float]] = {"small": [], "dense": []}
    spent = 0.0
    _keep_freed_memory()
    with evaluating(small, dense), torch.inference_mode():
        once = min(take_turns(passes, WARM_UPS, clock=clock)["dense"])
        wanted = ceil(TURN_SECONDS / max(1e-9, once))
        turn = range(min(MOST_PASSES, max(FEWEST_PASSES, wanted)))
        actions = {f"{name} {i}": run for name, run in passes.items() for i in turn}
        while True:
            seconds = take_turns(actions, ROUNDS_AT_ONCE, clock=clock)
            for name in passes:
                times = (seconds[f"{name} {i}"] for i in turn)
                rounds[name] += map(min, zip(*times, strict=True))
            spent += sum(map(sum, seconds.values()))
            ratios = [s / d for s, d in zip(rounds["small"], rounds["dense"], strict=True)]
            spread = half_interval(ratios)
            if spread <= PRECISION or len(ratios) >= MOST_ROUNDS or spent >= MOST_SECONDS:
                break
    return LatencyRatio(median(ratios), spread, len(ratios))


def undisturbed_clock(device: torch.device) -> Callable[[], float] | None:
    """Choose the clock that other programs disturb least.

    Returns:
        The thread's own processor time where one thread does all the work, which is the wall time
        of a machine that does nothing else; None, for wall time, elsewhere.
    """
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1 and os.name == "posix"
    return time.thread_time if is_alone else None


def half_interval(values: Sequence[float]) -> float:
    """Compute half of the interval that holds the true median with 95 % confidence.

    Its ends are two of the values, whatever their distribution is.

    Args:
        values: At least 6 independent ones; of fewer, no two are far enough apart.

    References:
        Conover 1999, Practical Nonparametric Statistics, section 3.2.
    """
    n, rank = len(values), 0
    outside = 2 / 2**n  # chance that the median is beyond the values of this rank from either end
    while outside <= 1 - CONFIDENCE:
        rank += 1
        outside += 2 * comb(n, rank) / 2**n
    ordered, first = sorted(values), max(0, rank - 1)
    return (ordered[n - 1 - first] - ordered[first]) / 2


def _keep_freed_memory() -> None:
    """Let the process keep the memory that a pass frees for the next one.

    The allocator of Linux returns blocks to the system, and pays for new pages at every pass, until
    one nearly as large as its largest threshold was freed; this is up to a third of a pass.
    """
    torch.empty(LARGEST_THRESHOLD_BYTES - 2**20, dtype=torch.uint8)


def _pass_of(model: nn.Module, sample: Any, batch_size: int) -> Callable[[], object]:
    """Fill a batch with a sample and prepare a forward pass of it."""
    if isinstance(sample, list):
        args: tuple[Any, ...] = ([*sample[:1]] * batch_size,)
        return partial(model, *args)
    batch = map_tensors(sample, lambda t: t[:1].repeat(batch_size, *(1 for _ in t.shape[1:])))
    args, options = arguments(batch, accepted_form(model, batch))
    return partial(model, *args, **options)
