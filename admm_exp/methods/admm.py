"""ADMM training, then the cut and finetuning."""

from admm_exp.admm.rho import Momentum
from admm_exp.admm.rho_policy import RhoPolicy
from admm_exp.config.settings import ExperimentConfig
from admm_exp.methods.method import Finetuned, Task, pruning_lrs
from admm_exp.phases.admm import train_admm
from admm_exp.phases.admm_plan import AdmmPlan
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import Stopped


class ADMM(Finetuned):
    """Train W towards its projection until the units to be cut carry nothing."""

    def check(self, config: ExperimentConfig, rho_policy: RhoPolicy, steps_per_epoch: int) -> None:
        """Refuse a rho that is too large for the learning rate of an iteration."""
        rho = starting_rho(config, rho_policy, steps_per_epoch)
        plan_of(config, rho_policy).check_rho(rho, _momentum(config))

    def sparsify(self, constrained: ConstrainedModel, task: Task) -> Stopped:
        """Run the ADMM iterations."""
        constrained.rho = starting_rho(task.config, task.rho_policy, task.steps_per_epoch)
        plan = plan_of(task.config, task.rho_policy)
        return train_admm(constrained, plan, task.parts, offset=task.offset)


def plan_of(config: ExperimentConfig, rho_policy: RhoPolicy) -> AdmmPlan:
    """Read what the ADMM phase is asked to do."""
    schedule = config.schedule
    return AdmmPlan(
        pruning_lrs(schedule),
        schedule.admm_iterations,
        rho_policy,
        relaxation=schedule.relaxation,
        sparsity_ramp=schedule.sparsity_ramp,
        stopping=schedule.stopping,
        stable_iterations=schedule.stable_iterations,
        freeze_support=schedule.freeze_support,
        w_step=schedule.w_step,
        is_auto=config.rho == "auto",
    )


def starting_rho(config: ExperimentConfig, rho_policy: RhoPolicy, steps_per_epoch: int) -> float:
    """Read rho, or choose it from all learning rates and the course of the ADMM phase."""
    if config.rho == "auto":
        return plan_of(config, rho_policy).auto_rho(steps_per_epoch, _momentum(config))
    return float(config.rho)


def _momentum(config: ExperimentConfig) -> Momentum | None:
    """Read the momentum of the optimizer; None for Adam-like ones."""
    optimizer = config.schedule.optimizer
    if optimizer.name != "sgd":
        return None
    return Momentum(optimizer.momentum, optimizer.nesterov)
