"""The ADMM phase: W-steps with the user's train function, Z- and U-steps between them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from time import perf_counter

from torch.optim import Optimizer

from admm_exp.admm.convergence import Residuals
from admm_exp.admm.settings import Stopping
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.observers import Observers
from admm_exp.phases.progress import LivePhase
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.penalty import StepCount
from admm_exp.pruning.removal import Removal
from admm_exp.results import History, IterationRecord, PhaseResult, Stopped, hex_digits
from admm_exp.training.loop import as_evaluation, run_epochs
from admm_exp.training.optimizer import momentum_of
from admm_exp.training.seeding import restore_rng_state, rng_state

MAX_UNITS_TOLD = 65_536


def train_admm(
    constrained: ConstrainedModel, course: AdmmCourse, functions: TrainingFunctions, offset: int = 0
) -> Stopped:
    """Run ADMM iterations on a constrained network, in place.

    Args:
        constrained: The network with its groups and ADMM state; its rho is the start value.
        course: Length, learning rates and rules of the phase.
        functions: The user's functions and the observer.
        offset: Epochs of the run before this phase.

    Returns:
        What ended the phase.

    Raises:
        TrainingError: If the train function never steps the optimizer, or a loss is not finite.
    """
    start, first_rho = perf_counter(), constrained.rho
    seen = History()
    functions = replace(functions, observer=Observers((functions.observer, seen)))
    functions.observer.phase_started("admm", course.lrs.epochs)
    optimizer = functions.optimizer_fn(constrained.model.parameters(), course.lrs.base)
    momentum = momentum_of(optimizer)
    if course.settings.sparsity_ramp > 0.0:
        constrained.loosen(course.share_of(0))
    log = functions.begin(LivePhase("admm", constrained.model, optimizer, constrained))
    past: list[Residuals] = list(log.iterations)
    n_trained, n_steps = len(log.epochs), log.steps_per_epoch or functions.steps_per_epoch
    reason, unmoved = course.stop_reason(past), None
    rounds = range(len(past))
    capped = _first(course.cap_notice(first_rho, past[:i], momentum) for i in rounds)
    complaint = _first(course.complaint(past[: i + 1], n_steps or 1, momentum) for i in rounds)
    while reason is None and len(past) < course.settings.admm_iterations:
        iteration = len(past)
        constrained.rho = course.next_rho(first_rho, past, momentum, n_steps)
        capped = capped or course.cap_notice(first_rho, past, momentum)
        epochs = course.epochs_of(iteration)
        left = range(max(n_trained, epochs.start), epochs.stop)
        if left:  # none are left if the run stopped just before the update
            with _w_step(constrained, course, optimizer, iteration) as steps:
                n_steps = run_epochs(
                    constrained.model,
                    optimizer,
                    course.lrs,
                    left,
                    train_fn=functions.train_fn,
                    validate_fn=functions.validate_fn,
                    phase="admm",
                    on_epoch=functions.observer.epoch_finished,
                    steps_per_epoch=n_steps,
                    offset=offset,
                )
            unmoved = unmoved or (steps.warning() if steps else None)
        dual_step = course.dual_step(iteration, constrained.rho, n_steps, momentum)
        past.append(_update(constrained, course, past, dual_step))
        functions.observer.iteration_finished(
            IterationRecord(
                **vars(past[-1]),
                iteration=len(past),
                val_accuracy=seen.epochs[-1].val_accuracy,
                projected_val_accuracy=_projected_accuracy(constrained, functions),
                support=_support(constrained),
            )
        )
        complaint = complaint or course.complaint(past, n_steps or 1, momentum)
        for message in (capped, complaint, unmoved):
            if message and message not in seen.warnings:  # once each
                functions.observer.warned(message)
        reason = course.stop_reason(past)
    n_epochs = len(past) * course.settings.admm_epoch
    functions.observer.phase_finished(PhaseResult("admm", perf_counter() - start, n_epochs))
    return Stopped(
        reason or Stopping.budget,
        len(past),
        course.lrs.epochs - n_epochs,
        course.pull_so_far(past, n_steps, momentum),
        sum(map(course.is_masked, range(len(past)))),
    )


@contextmanager
def _w_step(
    constrained: ConstrainedModel, course: AdmmCourse, optimizer: Optimizer, iteration: int
) -> Iterator[StepCount | None]:
    """Pull the units to be removed, or keep them at zero, as a pull of any strength would."""
    with ExitStack() as stack:
        steps = None
        if not course.is_masked(iteration):
            steps = stack.enter_context(constrained.penalty(optimizer, course.settings.w_step))
        removal = _held(constrained, course, iteration)
        if removal is not None:
            stack.enter_context(removal.holding(optimizer, constrained.model))
        yield steps


def _held(constrained: ConstrainedModel, course: AdmmCourse, iteration: int) -> Removal | None:
    if course.is_masked(iteration):
        return constrained.removal()
    return constrained.settled_removal() if course.holds_settled(iteration) else None


def _update(
    constrained: ConstrainedModel, course: AdmmCourse, past: Sequence[Residuals], dual_step: float
) -> Residuals:
    return constrained.update(
        course.settings.relaxation,
        share=course.share_of(len(past) + 1),
        is_frozen=course.is_frozen(past),
        w_step=course.settings.w_step,
        dual_step=dual_step,
    )


def _projected_accuracy(constrained: ConstrainedModel, functions: TrainingFunctions) -> float:
    """Validate a masked copy; the random generators end as they were."""
    generators = rng_state()
    projected = constrained.removal().masked()
    if functions.recalibrate_fn is not None:
        functions.recalibrate_fn(projected)
    accuracy = as_evaluation(functions.validate_fn(projected)).accuracy
    restore_rng_state(generators)
    return accuracy


def _support(constrained: ConstrainedModel) -> tuple[str, ...]:
    """Write which units of every group are kept, where a picture could show it."""
    support = [kept.flatten() for kept in constrained.state.support]
    is_small = sum(kept.numel() for kept in support) <= MAX_UNITS_TOLD
    return tuple(hex_digits(kept.tolist()) for kept in support) if is_small else ()


def _first(messages: Iterable[str | None]) -> str | None:
    return next((message for message in messages if message), None)
