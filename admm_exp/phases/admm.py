"""The ADMM phase: W-steps with the user's train function, Z- and U-steps between them."""

from dataclasses import asdict
from time import perf_counter

from admm_exp.admm.projection import NotANumberError
from admm_exp.admm.residuals import Residuals
from admm_exp.config import Stopping
from admm_exp.errors import TrainingError
from admm_exp.phases.admm_plan import AdmmPlan
from admm_exp.phases.parts import Parts
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import IterationRecord, PhaseResult, Stopped
from admm_exp.training.loop import run_epochs
from admm_exp.training.optimizer import momentum_of


def train_admm(
    constrained: ConstrainedModel, plan: AdmmPlan, parts: Parts, offset: int = 0
) -> Stopped:
    """Run ADMM iterations on a constrained network, in place.

    Args:
        constrained: The network with its groups and ADMM state; its rho is the start value.
        plan: Length, learning rates and rules of the phase.
        parts: The user's functions and the observer.
        offset: Epochs of the run before this phase.

    Returns:
        What ended the phase.

    Raises:
        TrainingError: If the train function never steps the optimizer, or a loss is not finite.
    """
    start, first_rho = perf_counter(), constrained.rho
    past: list[Residuals] = []
    parts.observer.phase_started("admm", len(plan.lrs))
    optimizer = parts.optimizer_fn(constrained.model.parameters(), plan.lrs[0])
    if plan.sparsity_ramp > 0.0:
        constrained.loosen(plan.share_of(0))
    reason = None
    while reason is None and len(past) < plan.admm_iterations:
        iteration = len(past)
        constrained.rho = plan.next_rho(first_rho, past, momentum_of(optimizer))
        lrs, done = plan.lrs_of(iteration), iteration * plan.admm_epoch
        with constrained.penalty(optimizer, plan.w_step):
            run_epochs(
                constrained.model,
                optimizer,
                lrs,
                train_fn=parts.train_fn,
                validate_fn=parts.validate_fn,
                phase="admm",
                on_epoch=parts.observer.epoch_finished,
                done=done,
                offset=offset,
            )
        try:
            residuals = constrained.update(
                plan.relaxation,
                share=plan.share_of(iteration + 1),
                is_frozen=plan.is_frozen(past),
            )
        except NotANumberError as error:
            raise TrainingError(
                f"training diverged: {error} after iteration {iteration + 1} of phase admm; "
                f"lower the learning rate ({lrs[0]:g})"
            ) from error
        past.append(residuals)
        record = IterationRecord(iteration=iteration + 1, **asdict(residuals))
        parts.observer.iteration_finished(record)
        reason = plan.stop_reason(past)
    epochs = len(past) * plan.admm_epoch
    parts.observer.phase_finished(PhaseResult("admm", perf_counter() - start, epochs))
    return Stopped(reason or Stopping.budget, len(past), len(plan.lrs) - epochs)
