"""Training on the task, for a number of epochs or at given learning rates."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter

from torch import nn
from torch.optim import Optimizer

from admm_exp.errors import TrainingError
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.progress import LivePhase
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import PhaseResult
from admm_exp.training.learning_rate import LearningRates, training_lrs
from admm_exp.training.loop import run_epochs

AroundEpoch = Callable[[Optimizer, int], AbstractContextManager[None]]


def anything(optimizer: Optimizer, epoch: int) -> AbstractContextManager[None]:
    """Put nothing around an epoch."""
    return nullcontext()


def train_plain(
    model: nn.Module,
    phase: str,
    functions: TrainingFunctions,
    *,
    epochs: int,
    lr: float,
    decay: str,
    warmup: float,
    lr_per: str,
    offset: int,
    before: int = 0,
    around_epoch: AroundEpoch = anything,
) -> PhaseResult:
    """Train a network in place for a number of epochs.

    Args:
        model: The network.
        phase: Name of the phase.
        functions: The user's functions and the observer.
        epochs: Number of epochs; 0 leaves the network as it is.
        lr: Highest learning rate.
        decay: "constant", "cosine" or "step".
        warmup: Fraction of the phase that rises to the highest learning rate, in [0, 1).
        lr_per: "step" (every optimizer step has its own learning rate) or "epoch".
        offset: Epochs of the run before this phase.
        before: Epochs of the same curve of learning rates, warm-up included, that came before.
        around_epoch: Called with the optimizer and the epoch, see `train_at`.
    """
    lrs = training_lrs(decay, lr, epochs, warmup=warmup, per=lr_per, before=before)
    return train_at(model, phase, functions, lrs, offset, around_epoch=around_epoch)


def train_at(
    model: nn.Module,
    phase: str,
    functions: TrainingFunctions,
    lrs: LearningRates,
    offset: int,
    *,
    around_epoch: AroundEpoch = anything,
    constrained: ConstrainedModel | None = None,
) -> PhaseResult:
    """Train a network in place for as many epochs as there are learning rates for.

    Args:
        model: The network.
        phase: Name of the phase.
        functions: The user's functions and the observer.
        lrs: Learning rates; those of no epochs leave the network as it is.
        offset: Epochs of the run before this phase.
        around_epoch: Called with the optimizer and the epoch, counted from 0 within the phase;
            the epoch is trained inside what it returns.
        constrained: The constraint on the network, if `around_epoch` changes its state.

    Raises:
        TrainingError: If the train function never steps the optimizer in an epoch.
    """
    start = perf_counter()
    functions.observer.phase_started(phase, lrs.epochs)
    if lrs.epochs:
        optimizer = functions.optimizer_fn(model.parameters(), lrs.base)
        log = functions.begin(LivePhase(phase, model, optimizer, constrained))
        steps_per_epoch = log.steps_per_epoch or functions.steps_per_epoch
        for epoch in range(len(log.epochs), lrs.epochs):
            with around_epoch(optimizer, epoch), _stepping(optimizer, phase):
                steps_per_epoch = run_epochs(
                    model,
                    optimizer,
                    lrs,
                    range(epoch, epoch + 1),
                    train_fn=functions.train_fn,
                    validate_fn=functions.validate_fn,
                    phase=phase,
                    on_epoch=functions.observer.epoch_finished,
                    steps_per_epoch=steps_per_epoch,
                    offset=offset,
                )
    result = PhaseResult(phase, perf_counter() - start, lrs.epochs)
    functions.observer.phase_finished(result)
    return result


@contextmanager
def _stepping(optimizer: Optimizer, phase: str) -> Iterator[None]:
    """Refuse a train function that never steps the optimizer it is given."""
    steps: list[None] = []
    handle = optimizer.register_step_pre_hook(lambda *_: steps.append(None))
    try:
        yield
    finally:
        handle.remove()
    if not steps:
        raise TrainingError(
            f"the train function never stepped the optimizer it was given in phase {phase}: "
            f"call step() on that optimizer"
        )
