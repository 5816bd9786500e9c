"""Optimizer steps as they happen: how many there were, and the learning rate of each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from admm_exp.training.learning_rate import LearningRates


def watch_steps(optimizer: Optimizer, after_step: Callable[[], None]) -> list[RemovableHandle]:
    """Call a function after every step of an optimizer from now on.

    It runs behind the hooks that were registered before. A step() that calls super().step() runs
    its hooks twice and counts once.

    Returns:
        Handles that end it.
    """
    depth = 0

    def begin(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def end(*_: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            after_step()

    return [optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end)]


@contextmanager
def watched_steps(optimizer: Optimizer, after_step: Callable[[], None]) -> Iterator[None]:
    """Call a function after every step of an optimizer, inside the block."""
    handles = watch_steps(optimizer, after_step)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def all_steps(after_step: Callable[[], None]) -> Iterator[None]:
    """Call a function after every step of any optimizer, inside the block."""
    handle = register_optimizer_step_post_hook(lambda *_: after_step())
    try:
        yield
    finally:
        handle.remove()


class EpochRates:
    """Sets the learning rates of an epoch's steps and remembers those that were used.

    The highest goes to the fastest parameter group; the ratios between groups are kept.

    Args:
        optimizer: Optimizer that trains the epoch.
        lrs: Learning rates of the phase.
        epoch: Counted from 0 within the phase.
        steps_per_epoch: Optimizer steps that it is expected to take; None if nobody knows.
        ratios: Learning rate of every parameter group, relative to the fastest.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lrs: LearningRates,
        epoch: int,
        steps_per_epoch: int | None,
        ratios: Sequence[float],
    ) -> None:
        # A folded penalty puts other groups in their place for the time of a step.
        self._groups = list(zip(optimizer.param_groups, ratios, strict=True))
        self._lrs, self._epoch, self._expected = lrs, epoch, steps_per_epoch
        self.n_steps = 0
        self._total = 0.0
        self._next = self._lr(0)
        self._set()

    @property
    def mean(self) -> float:
        """Mean learning rate of the steps taken; that of the first where there were none."""
        if self._lrs.per == "epoch" or not self.n_steps:
            return self._lr(0)
        return self._total / self.n_steps

    def after_step(self) -> None:
        """Count a step and set the learning rate of the one after it."""
        self.n_steps += 1
        self._total += self._next
        if self._lrs.per == "step":
            self._next = self._lr(self.n_steps)
            self._set()

    def _lr(self, step: int) -> float:
        return self._lrs.at(self._epoch, step, self._expected)

    def _set(self) -> None:
        for group, ratio in self._groups:
            group["lr"] = self._next * ratio
