"""One epoch of training, one pass of evaluation, and the loop over epochs."""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.errors import TrainingError
from admm_exp.results import EpochRecord, Evaluation
from admm_exp.training.distribution import averaged, copy_from_first_, own_random_numbers, summed
from admm_exp.training.learning_rate import LearningRates
from admm_exp.training.precision import HALVES, PLAIN, Stepping
from admm_exp.training.shared_batch_norm import shared_batch_norm
from admm_exp.training.step_rates import EpochRates, watched_steps

Batch = tuple[Any, Any]
TrainFn = Callable[[nn.Module, Optimizer, int], Any]
ValidateFn = Callable[[nn.Module], Any]
EvaluateFn = Callable[[nn.Module, Iterable[Any]], Any]
LossFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits, labels, images) -> mean loss of a batch."""
ACCURACY_ROUNDING = 1e-6  # a mean of fractions may end just above 1


class DivergedError(TrainingError):
    """A loss or a weight was not a finite number.

    Args:
        step: Step within the epoch, counted from 1; None for the end of the epoch.
        what: What was not finite.
    """

    def __init__(self, step: int | None, what: str = "loss") -> None:
        where = "the end" if step is None else f"step {step}"
        super().__init__(f"the {what} is not a finite number at {where}")
        self.step = step


def cross_entropy(logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
    """Compute the mean cross entropy of a batch; the images are not read."""
    return F.cross_entropy(logits, labels)


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    loss_fn: LossFn = cross_entropy,
    stepping: Stepping = PLAIN,
) -> float:
    """Train one epoch, together with other processes where there are any.

    Losses stay on the device until the epoch is over. Batches left over at its end make a step of
    their own, along their mean gradient.

    Args:
        model: The network; trained in place.
        optimizer: Its optimizer.
        batches: (images, labels) on the network's device.
        loss_fn: (logits, labels, images) -> mean loss of a batch.
        stepping: How a step computes.

    Returns:
        Mean loss a batch.

    Raises:
        DivergedError: If a loss was NaN or infinite, with the first such step.
    """
    model.train()
    forward, losses, n_waiting = stepping.forward_of(model), [], 0
    with shared_batch_norm():
        for images, labels in batches:
            if n_waiting == 0:
                optimizer.zero_grad(set_to_none=True)
            with stepping.autocast(images.device):
                loss = loss_fn(forward(images), labels, images)
            stepping.backward(loss, optimizer)
            losses.append(loss.detach())  # of loss_fn, no output that a CUDA graph overwrites
            n_waiting += 1
            if n_waiting == stepping.accumulation:
                stepping.step(optimizer, n_waiting)
                n_waiting = 0
        if n_waiting:
            stepping.step(optimizer, n_waiting)
    values = averaged(torch.stack(losses))
    copy_from_first_(model)  # machines may round differently
    if not bool(values.isfinite().all()):
        raise DivergedError(int(values.isfinite().logical_not().int().argmax()) + 1)
    return float(values.mean())


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[Batch], stepping: Stepping = PLAIN) -> Evaluation:
    """Evaluate accuracy and mean cross entropy a sample, over the samples of all processes.

    The model's mode is restored.

    Args:
        model: The network.
        batches: (images, labels) on the network's device.
        stepping: In which number format the network computes; the loss is float32 in all.
    """
    was_training = model.training
    model.eval()
    correct, loss, n = torch.zeros(()), torch.zeros(()), 0
    for images, labels in batches:
        with stepping.autocast(images.device):
            logits = model(images)
        if logits.dtype in HALVES.values():
            logits = logits.float()
        correct = correct.to(logits.device) + (logits.argmax(dim=1) == labels).sum()
        loss = loss.to(logits.device) + F.cross_entropy(logits, labels, reduction="sum")
        n += len(labels)
    model.train(was_training)
    # one answer of the device for both
    hits, losses, samples = summed(*torch.stack((correct, loss)).tolist(), n)
    return Evaluation(hits / samples, losses / samples)


def run_epochs(
    model: nn.Module,
    optimizer: Optimizer,
    lrs: LearningRates,
    epochs: range,
    *,
    train_fn: TrainFn,
    validate_fn: ValidateFn,
    phase: str,
    on_epoch: Callable[[EpochRecord], None],
    steps_per_epoch: int | None = None,
    offset: int = 0,
) -> int | None:
    """Train some epochs of a phase and validate after each.

    Args:
        model: The network; trained in place.
        optimizer: Its optimizer.
        lrs: Learning rates of the phase; they are those of the fastest parameter group, the ratios
            between groups are kept.
        epochs: Those to train, counted from 0 within the phase.
        train_fn: Called with (model, optimizer, epoch), epochs counted from 0 over the whole run;
            may return a loss or a mapping with `train_loss`.
        validate_fn: Called with the model; returns an accuracy in [0, 1] or an `Evaluation`.
        phase: Name of the phase.
        on_epoch: Called with the record of each epoch.
        steps_per_epoch: Optimizer steps that the first of these epochs is expected to take, which
            its learning rates come from; every later one as many as the one before it took. None
            if nobody knows.
        offset: Epochs of the run before this phase.

    Returns:
        Optimizer steps that the next epoch is expected to take.

    Raises:
        TrainingError: If a loss or a weight was not finite, with phase, epoch and (where it is
            known) step, or one of the functions returned something else.
    """
    ratios = _lr_ratios(optimizer)
    for epoch in epochs:
        start = perf_counter()
        rates = EpochRates(optimizer, lrs, epoch, steps_per_epoch, ratios)
        try:
            with own_random_numbers(), watched_steps(optimizer, rates.after_step):
                train_loss = _loss_of(train_fn(model, optimizer, offset + epoch))
            _require_finite(model)  # the losses are those before each step
            evaluation = as_evaluation(validate_fn(model))
            if evaluation.loss is not None and not isfinite(evaluation.loss):
                raise DivergedError(None, "validation loss")
        except DivergedError as error:
            raise TrainingError(
                f"training diverged: {error} of epoch {epoch + 1} of phase {phase}; "
                f"lower the learning rate ({lrs.highest(epoch, epoch + 1):g})"
            ) from error
        steps_per_epoch = rates.n_steps or steps_per_epoch
        seconds, (accuracy, loss) = perf_counter() - start, (evaluation.accuracy, evaluation.loss)
        on_epoch(EpochRecord(phase, epoch + 1, rates.mean, train_loss, accuracy, loss, seconds))
    return steps_per_epoch


def as_evaluation(returned: Any) -> Evaluation:
    """Read what a validate function returned: an Evaluation or an accuracy.

    Raises:
        TrainingError: If it is neither, or the accuracy is outside [0, 1].
    """
    found = returned if isinstance(returned, Evaluation) else Evaluation(returned, None)
    accuracy = _number(found.accuracy, "validate_fn must return an accuracy as a number")
    if not 0.0 <= accuracy <= 1.0 + ACCURACY_ROUNDING:
        raise TrainingError(f"validate_fn must return an accuracy in [0, 1], got {accuracy:g}")
    return Evaluation(accuracy, found.loss)


def _require_finite(model: nn.Module) -> None:
    names, parameters = zip(*model.named_parameters(), strict=True)
    are_finite = torch.stack([parameter.detach().isfinite().all() for parameter in parameters])
    if not bool(are_finite.all()):  # one answer of the device for all of them
        raise DivergedError(None, f"weight {names[are_finite.tolist().index(False)]}")


def _loss_of(returned: Any) -> float | None:
    if isinstance(returned, Mapping):
        returned = returned.get("train_loss")
    if returned is None:
        return None
    loss = _number(returned, "train_fn must return a loss as a number, or None")
    if not isfinite(loss):
        raise DivergedError(None)
    return loss


def _number(returned: Any, rule: str) -> float:
    try:
        if isinstance(returned, str):
            raise TypeError
        return float(returned.detach() if isinstance(returned, Tensor) else returned)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{rule}, got {type(returned).__name__}") from error


def _lr_ratios(optimizer: Optimizer) -> list[float]:
    highest = max(group["lr"] for group in optimizer.param_groups)
    return [group["lr"] / highest if highest else 1.0 for group in optimizer.param_groups]
