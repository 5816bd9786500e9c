"""What every phase works with: the user's functions, and who watches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer

from admm_exp.phases.observers import Observer
from admm_exp.phases.progress import LivePhase, PhaseLog, Progress
from admm_exp.training.loop import TrainFn, ValidateFn

OptimizerFn = Callable[[Iterable[nn.Parameter], float], Optimizer]


@dataclass(frozen=True)
class TrainingFunctions:
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
        steps_per_epoch: Optimizer steps an epoch takes, as far as known before one was trained.
    """

    train_fn: TrainFn
    validate_fn: ValidateFn
    optimizer_fn: OptimizerFn
    observer: Observer
    recalibrate_fn: Callable[[nn.Module], None] | None = None
    progress: Progress = field(default_factory=Progress)
    steps_per_epoch: int | None = None

    def begin(self, live: LivePhase) -> PhaseLog:
        """Bring a phase to where it stopped and tell the observer what was done by then."""
        log = self.progress.begin(live)
        for epoch in log.epochs:
            self.observer.epoch_finished(epoch)
        for iteration in log.iterations:
            self.observer.iteration_finished(iteration)
        for message in log.warnings:
            self.observer.warned(message)
        return log
