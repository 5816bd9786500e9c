"""What every phase works with: the user's functions, and who watches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn
from torch.optim import Optimizer

from admm_exp.phases.progress import NoProgress, PhaseLog, Progress
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import EpochRecord, IterationRecord, PhaseResult
from admm_exp.training.loop import TrainFn, ValidateFn

OptimizerFn = Callable[[Iterable[nn.Parameter], float], Optimizer]


class Observer(Protocol):
    """Sees a run as it happens: tracker, terminal, history."""

    def phase_started(self, name: str, epochs: int) -> None:
        """Take note that a phase of so many epochs begins."""

    def epoch_finished(self, record: EpochRecord) -> None:
        """Take note of an epoch."""

    def iteration_finished(self, record: IterationRecord) -> None:
        """Take note of an ADMM iteration."""

    def phase_finished(self, result: PhaseResult) -> None:
        """Take note that a phase is over."""

    def warned(self, message: str) -> None:
        """Take note of what a person should know now."""


@dataclass(frozen=True)
class Observers:
    """Several observers as one, told in order."""

    members: tuple[Observer, ...]

    def phase_started(self, name: str, epochs: int) -> None:
        """Tell all members."""
        for member in self.members:
            member.phase_started(name, epochs)

    def epoch_finished(self, record: EpochRecord) -> None:
        """Tell all members."""
        for member in self.members:
            member.epoch_finished(record)

    def iteration_finished(self, record: IterationRecord) -> None:
        """Tell all members."""
        for member in self.members:
            member.iteration_finished(record)

    def phase_finished(self, result: PhaseResult) -> None:
        """Tell all members."""
        for member in self.members:
            member.phase_finished(result)

    def warned(self, message: str) -> None:
        """Tell all members."""
        for member in self.members:
            member.warned(message)


@dataclass(frozen=True)
class Parts:
    """The functions that train, validate and optimize, and the observer.

    Args:
        train_fn: Trains one epoch: (model, optimizer, epoch) -> loss or None; epochs count from 0
            over the whole run.
        validate_fn: (model) -> accuracy in [0, 1] or Evaluation.
        optimizer_fn: (parameters, learning rate) -> optimizer.
        observer: Sees the run.
        recalibrate_fn: Estimates the running statistics of norm layers anew, in place; None leaves
            those of a projected network as they were.
        progress: Keeps what the phases do.
    """

    train_fn: TrainFn
    validate_fn: ValidateFn
    optimizer_fn: OptimizerFn
    observer: Observer
    recalibrate_fn: Callable[[nn.Module], None] | None = None
    progress: Progress = field(default_factory=NoProgress)

    def begin(
        self,
        phase: str,
        model: nn.Module,
        optimizer: Optimizer,
        constrained: ConstrainedModel | None = None,
    ) -> PhaseLog:
        """Bring a phase to where it stopped and tell the observer what was done by then.

        Args:
            phase: Name of the phase.
            model: The network that it trains.
            optimizer: Its optimizer.
            constrained: The constraint on the network, if the phase has one.
        """
        log = self.progress.begin(phase, model, optimizer, constrained)
        for epoch in log.epochs:
            self.observer.epoch_finished(epoch)
        for iteration in log.iterations:
            self.observer.iteration_finished(iteration)
        for message in log.warnings:
            self.observer.warned(message)
        return log
