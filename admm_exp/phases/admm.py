"""The ADMM phase: W-steps with the user's train function, Z- and U-steps between them."""

from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter

from admm_exp.admm.projection import NotANumberError
from admm_exp.admm.rho import geometric_rho, largest_stable_rho
from admm_exp.errors import ConfigError, TrainingError
from admm_exp.phases.parts import Parts
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import IterationRecord, PhaseResult
from admm_exp.training.loop import run_epochs


def check_stability(
    lrs: Sequence[float], admm_iterations: int, rho: float, rho_growth: float, momentum: float
) -> None:
    """Check, before anything is trained, that no iteration's rho is too large for its step.

    Args:
        lrs: Learning rate of every epoch; their number is a multiple of admm_iterations.
        admm_iterations: Number of W/Z/U rounds.
        rho: Penalty parameter of the first iteration.
        rho_growth: Factor on rho from one iteration to the next.
        momentum: Momentum of the optimizer.

    Raises:
        ConfigError: If an iteration would diverge, with the iteration and the bound.
    """
    admm_epoch = len(lrs) // admm_iterations
    for iteration in range(admm_iterations):
        lr = max(lrs[iteration * admm_epoch : (iteration + 1) * admm_epoch])
        value, bound = geometric_rho(rho, rho_growth, iteration), largest_stable_rho(lr, momentum)
        if value >= bound:
            raise ConfigError(
                f"rho must stay below {bound:.3g} at learning rate {lr:.3g}, got {value:.3g} in "
                f"iteration {iteration + 1}: lower rho or rho_growth ({rho_growth:g})"
            )


def train_admm(
    constrained: ConstrainedModel,
    lrs: Sequence[float],
    parts: Parts,
    *,
    admm_iterations: int,
    rho_growth: float,
    relaxation: float,
    offset: int,
) -> PhaseResult:
    """Run ADMM iterations on a constrained network, in place.

    Args:
        constrained: The network with its groups and ADMM state.
        lrs: Learning rate of every epoch; their number is a multiple of admm_iterations.
        parts: The user's functions and the observer.
        admm_iterations: Number of W/Z/U rounds.
        rho_growth: Factor on rho from one iteration to the next; 1 keeps it constant.
        relaxation: Over-relaxation in (0, 2); 1 is none.
        offset: Epochs of the run before this phase.

    Raises:
        TrainingError: If the train function never steps the optimizer, or a loss is not finite.
    """
    start = perf_counter()
    first_rho = constrained.rho
    admm_epoch = len(lrs) // admm_iterations
    parts.observer.phase_started("admm", len(lrs))
    optimizer = parts.optimizer_fn(constrained.model.parameters(), lrs[0])
    for iteration in range(admm_iterations):
        constrained.rho = geometric_rho(first_rho, rho_growth, iteration)
        done = iteration * admm_epoch
        with constrained.penalty(optimizer):
            run_epochs(
                constrained.model,
                optimizer,
                lrs[done : done + admm_epoch],
                train_fn=parts.train_fn,
                validate_fn=parts.validate_fn,
                phase="admm",
                on_epoch=parts.observer.epoch_finished,
                done=done,
                offset=offset,
            )
        try:
            residuals = constrained.update(relaxation)
        except NotANumberError as error:
            raise TrainingError(
                f"training diverged: {error} after iteration {iteration + 1} of phase admm; "
                f"lower the learning rate ({lrs[done]:g})"
            ) from error
        record = IterationRecord(iteration=iteration + 1, **asdict(residuals))
        parts.observer.iteration_finished(record)
    result = PhaseResult("admm", perf_counter() - start, len(lrs))
    parts.observer.phase_finished(result)
    return result
