"""The time that actions take, side by side."""

import time
from collections.abc import Callable, Mapping
from math import ceil


def take_turns(
    actions: Mapping[str, Callable[[], object]],
    rounds: int,
    turn_seconds: float = 0.0,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Time several actions in turns, so that a machine that slows down does so for all of them.

    Args:
        actions: Name -> what is timed.
        rounds: Turns of every action, at least 1.
        turn_seconds: An action is repeated until its turn takes about so long, after one call that
            warms it up and one that tells how often; 0: one call a turn, none before.
        clock: Seconds since some moment; None for wall time, read when the device is done.

    Returns:
        Name -> seconds a call, one number a round.
    """
    now = clock or _device_time

    def seconds_a_call(action: Callable[[], object], repeats: int) -> float:
        start = now()
        for _ in range(repeats):
            action()
        return float(now() - start) / repeats

    repeats = dict.fromkeys(actions, 1)
    if turn_seconds > 0.0:
        for name, action in actions.items():
            action()
            repeats[name] = max(1, ceil(turn_seconds / max(1e-9, seconds_a_call(action, 1))))
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    order = list(actions)
    for _ in range(rounds):
        for name in order:
            seconds[name].append(seconds_a_call(actions[name], repeats[name]))
        order.reverse()  # who comes first finds a fresh time slice on a busy machine
    return seconds


def _device_time() -> float:
    """Read the wall clock when the device is done."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
