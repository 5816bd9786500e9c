"""The cut at once, and all epochs spent on finetuning."""

from dataclasses import replace

from admm_exp.config.settings import Schedule
from admm_exp.methods.method import Finetuned, LastTraining, Task
from admm_exp.pruning.constrained import ConstrainedModel


class OneShot(Finetuned):
    """Rank the channels of the dense network, cut, finetune for A + F epochs.

    Args:
        lr: Highest learning rate of finetuning; None for that of the schedule.

    Raises:
        ValueError: If lr is not positive.
    """

    def __init__(self, lr: float | None) -> None:
        if lr is not None and not lr > 0.0:
            raise ValueError(f"lr must be null or greater than 0, got {lr}")
        self.lr = lr

    def sparsify(self, constrained: ConstrainedModel, task: Task) -> None:
        """Leave the network as it is: its state starts with the support of its weights."""

    def last_training(self, schedule: Schedule) -> LastTraining:
        """Finetune for A + F epochs."""
        epochs = schedule.admm_epochs + schedule.finetune.epochs
        settings = replace(schedule.finetune, epochs=epochs, lr=self.lr or schedule.finetune.lr)
        return LastTraining("finetune", settings, schedule.dense.epochs)
