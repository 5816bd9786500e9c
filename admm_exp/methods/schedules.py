"""Learning rates that several methods share."""

from admm_exp.config import Schedule
from admm_exp.training.learning_rate import admm_lrs


def pruning_lrs(schedule: Schedule) -> list[float]:
    """List the learning rates of the A epochs before the cut."""
    return admm_lrs(
        schedule.admm_decay, schedule.admm_lr, schedule.admm_iterations, schedule.admm_epoch
    )
