"""Learning rates of a phase, as a pure function of how far it has come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi

PEAK_SAMPLES = 64
"""Places in an epoch where its highest learning rate is looked for."""


def decayed(decay: str, base: float, place: int, length: int, warmup: int = 0) -> float:
    """Compute the learning rate at one place of a phase.

    Args:
        decay: "constant", "cosine" (from base towards 0) or "step" (x0.1 at 1/2 and 3/4).
        base: Highest learning rate.
        place: Step or epoch, counted from 0.
        length: Steps or epochs of the phase.
        warmup: How many of them rise in equal steps to base at the start.

    Raises:
        ValueError: If decay is unknown.
    """
    if place < warmup:
        return base * (place + 1) / (warmup + 1)
    progress = (place - warmup) / max(1, length - warmup)
    if decay == "constant":
        return base
    if decay == "cosine":
        return base * 0.5 * (1.0 + cos(pi * progress))
    if decay == "step":
        return base * 0.1 ** ((progress >= 0.5) + (progress >= 0.75))
    raise ValueError(f"decay must be constant, cosine or step, got {decay!r}")


@dataclass(frozen=True)
class LearningRates:
    """The learning rates of a phase.

    Args:
        curve: (place, length) -> learning rate; both count steps, or epochs.
        base: Highest learning rate.
        epochs: Length of the phase.
        per: "step" (every optimizer step has its own) or "epoch" (all steps of an epoch share one).

    Raises:
        ValueError: If `per` is neither.
    """

    curve: Callable[[int, int], float]
    base: float
    epochs: int
    per: str

    def __post_init__(self) -> None:
        if self.per not in {"step", "epoch"}:
            raise ValueError(f"lr_per must be step or epoch, got {self.per!r}")

    def at(self, epoch: int, step: int, steps_per_epoch: int | None) -> float:
        """Compute the learning rate of a step.

        Args:
            epoch: Counted from 0.
            step: Within the epoch, counted from 0; those beyond the last have its learning rate.
            steps_per_epoch: Optimizer steps an epoch takes; None if nobody knows yet: then the
                middle of the epoch stands for all of it.
        """
        if self.per == "epoch":
            return self.curve(epoch, self.epochs)
        if steps_per_epoch is None:
            step, steps_per_epoch = 1, 2
        last = steps_per_epoch - 1
        return self.curve(epoch * steps_per_epoch + min(step, last), self.epochs * steps_per_epoch)

    def of_epoch(self, epoch: int, steps_per_epoch: int) -> list[float]:
        """List the learning rates of all steps of an epoch, counted from 0."""
        return [self.at(epoch, step, steps_per_epoch) for step in range(steps_per_epoch)]

    def total(self, steps_per_epoch: int) -> float:
        """Sum the learning rates of all steps of the phase."""
        return sum(sum(self.of_epoch(epoch, steps_per_epoch)) for epoch in range(self.epochs))

    def highest(self, first: int, last: int) -> float:
        """Find the highest learning rate of some epochs.

        Args:
            first: Epoch, counted from 0.
            last: The epoch behind the last one.
        """
        return max(max(self.of_epoch(epoch, PEAK_SAMPLES)) for epoch in range(first, last))


def training_lrs(
    decay: str,
    base: float,
    epochs: int,
    *,
    warmup: float,
    per: str,
    before: int = 0,
    after: int = 0,
) -> LearningRates:
    """Describe the learning rates of a phase of plain training, or of a part of one.

    Args:
        decay: "constant", "cosine" (from base to 0 at the end of the phase) or "step" (x0.1 at 1/2
            and 3/4).
        base: Highest learning rate.
        epochs: Length of the phase.
        warmup: Fraction of the whole curve that rises in equal steps to base, in [0, 1).
        per: "step" or "epoch".
        before: Epochs of the same curve, its warm-up among them, that came before these.
        after: Epochs of the same curve that come after them.

    Raises:
        ValueError: If the decay is unknown or the warm-up out of range.
    """
    decayed(decay, base, 0, 1)
    if not 0.0 <= warmup < 1.0:
        raise ValueError(f"warmup must be in [0, 1), got {warmup}")

    def curve(place: int, length: int) -> float:
        size = length // max(1, epochs)  # of an epoch: its steps, or 1
        whole = length + size * (before + after)
        return decayed(decay, base, size * before + place, whole, round(warmup * whole))

    return LearningRates(curve, base, epochs, per)


def admm_lrs(
    decay: str,
    base: float,
    iterations: int,
    epochs_per_iteration: int,
    *,
    warmup: float,
    per: str,
    finetune_epochs: int = 0,
) -> LearningRates:
    """Describe the learning rates of the ADMM phase.

    Args:
        decay: "constant", "cosine" (over the whole phase), "joint" (one cosine over this phase and
            finetuning, which goes on where this one stops) or "thirds" (inside every iteration,
            x0.1 after each third of it).
        base: Highest learning rate, admm_lr.
        iterations: Number of ADMM iterations.
        epochs_per_iteration: Epochs of an iteration, admm_epoch.
        warmup: Fraction of the phase that rises in equal steps to base, in [0, 1); of both phases
            for "joint".
        per: "step" or "epoch".
        finetune_epochs: Of the finetuning that "joint" goes on in.

    Raises:
        ValueError: If the decay is unknown or the warm-up out of range.
    """
    if decay not in {"constant", "cosine", "joint", "thirds"}:
        raise ValueError(f"admm_decay must be constant, cosine, joint or thirds, got {decay!r}")
    epochs = iterations * epochs_per_iteration
    if decay == "joint":
        return training_lrs("cosine", base, epochs, warmup=warmup, per=per, after=finetune_epochs)
    if decay != "thirds":
        return training_lrs(decay, base, epochs, warmup=warmup, per=per)
    rising = training_lrs("constant", base, epochs, warmup=warmup, per=per)

    def curve(place: int, length: int) -> float:
        of_iteration = length // iterations
        fallen = int((place % of_iteration) / max(1.0, of_iteration / 3))
        return rising.curve(place, length) * 0.1**fallen

    return LearningRates(curve, base, epochs, per)


def listed(lrs: Sequence[float]) -> LearningRates:
    """Give every epoch a learning rate of its own.

    Args:
        lrs: One for each epoch.
    """
    return LearningRates(lambda epoch, _: lrs[epoch], max(lrs, default=0.0), len(lrs), "epoch")
