"""ADMM training, then the cut and finetuning."""

from admm_exp.admm.rho import auto_rho
from admm_exp.config import ExperimentConfig
from admm_exp.methods.method import Finetuned, Task
from admm_exp.methods.schedules import pruning_lrs
from admm_exp.phases.admm import check_stability, train_admm
from admm_exp.pruning.constrained import ConstrainedModel


class ADMM(Finetuned):
    """Train W towards its projection until the units to be cut carry nothing."""

    def check(self, config: ExperimentConfig, steps_per_epoch: int) -> None:
        """Refuse a rho that is too large for the learning rate of an iteration."""
        schedule = config.schedule
        if schedule.optimizer.name == "sgd":
            check_stability(
                pruning_lrs(schedule),
                schedule.admm_iterations,
                starting_rho(config, steps_per_epoch),
                schedule.rho_growth,
                schedule.optimizer.momentum,
            )

    def sparsify(self, constrained: ConstrainedModel, task: Task) -> None:
        """Run the ADMM iterations."""
        schedule = task.config.schedule
        constrained.rho = starting_rho(task.config, task.steps_per_epoch)
        train_admm(
            constrained,
            pruning_lrs(schedule),
            task.parts,
            admm_iterations=schedule.admm_iterations,
            rho_growth=schedule.rho_growth,
            relaxation=schedule.relaxation,
            offset=task.offset,
        )


def starting_rho(config: ExperimentConfig, steps_per_epoch: int) -> float:
    """Read rho, or choose it from the learning rates of the ADMM phase."""
    if config.rho == "auto":
        optimizer = config.schedule.optimizer
        momentum = optimizer.momentum if optimizer.name == "sgd" else 0.0
        return auto_rho(sum(pruning_lrs(config.schedule)) * steps_per_epoch, momentum)
    return float(config.rho)
