"""The cut at once, and all epochs spent on finetuning."""

from dataclasses import replace

from admm_exp.methods.method import Finetuned, LastTraining, Training
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.functions import TrainingFunctions
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

    def sparsify(
        self,
        constrained: ConstrainedModel,
        course: AdmmCourse,
        functions: TrainingFunctions,
        *,
        rho: float,
        offset: int,
    ) -> None:
        """Leave the network as it is: its state starts with the support of its weights."""

    def last_training(
        self, dense: Training, course: AdmmCourse, finetune: Training
    ) -> LastTraining:
        """Finetune for A + F epochs."""
        epochs = course.settings.epochs + finetune.epochs
        longer = replace(finetune, epochs=epochs, lr=self.lr or finetune.lr)
        return LastTraining("finetune", longer, dense.epochs)
