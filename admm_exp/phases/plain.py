"""Training without a penalty, as the dense and the finetune phase do it."""

from time import perf_counter

from torch import nn

from admm_exp.phases.parts import Parts
from admm_exp.results import PhaseResult
from admm_exp.training.learning_rate import epoch_lr
from admm_exp.training.loop import run_epochs


def train_plain(
    model: nn.Module,
    phase: str,
    parts: Parts,
    *,
    epochs: int,
    lr: float,
    decay: str,
    warmup_epochs: int,
    offset: int,
) -> PhaseResult:
    """Train a network in place for a number of epochs.

    Args:
        model: The network.
        phase: Name of the phase.
        parts: The user's functions and the observer.
        epochs: Number of epochs; 0 leaves the network as it is.
        lr: Highest learning rate.
        decay: "constant", "cosine" or "step".
        warmup_epochs: Epochs of a linear rise at the start.
        offset: Epochs of the run before this phase.
    """
    start = perf_counter()
    parts.observer.phase_started(phase, epochs)
    if epochs:
        optimizer = parts.optimizer_fn(model.parameters(), lr)
        lrs = [epoch_lr(decay, lr, epoch, epochs, warmup_epochs) for epoch in range(epochs)]
        run_epochs(
            model,
            optimizer,
            lrs,
            train_fn=parts.train_fn,
            validate_fn=parts.validate_fn,
            phase=phase,
            on_epoch=parts.observer.epoch_finished,
            offset=offset,
        )
    result = PhaseResult(phase, perf_counter() - start, epochs)
    parts.observer.phase_finished(result)
    return result
