"""The small architecture trained from random weights."""

from dataclasses import replace

from admm_exp.methods.method import Finetuned, LastTraining, Training
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.pruning.constrained import ConstrainedModel


class Scratch(Finetuned):
    """Train the architecture that the cut of the dense network leaves, as the dense one was.

    References:
        Liu et al. 2019, Rethinking the value of network pruning, arXiv 1810.05270.
    """

    starts_fresh = True

    def sparsify(
        self,
        constrained: ConstrainedModel,
        course: AdmmCourse,
        functions: TrainingFunctions,
        *,
        rho: float,
        offset: int,
    ) -> None:
        """Leave the network as it is: only its architecture is wanted."""

    def last_training(
        self, dense: Training, course: AdmmCourse, finetune: Training
    ) -> LastTraining:
        """Train for D + A + F epochs with the dense network's learning rates."""
        epochs = dense.epochs + course.settings.epochs + finetune.epochs
        return LastTraining("scratch", replace(dense, epochs=epochs), 0)
