"""What a method decides: how a network gets sparse, and how the small one is trained."""

from dataclasses import dataclass, replace
from typing import Protocol

from admm_exp.admm.rho import Momentum
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import Stopped


@dataclass(frozen=True)
class Training:
    """Epochs of plain training and their learning rates.

    Args:
        epochs: How many.
        lr: Highest learning rate.
        decay: "constant", "cosine" or "step".
        warmup: Fraction of the epochs over which the learning rate rises, in [0, 1); of those
            before them too.
        before: Epochs of the same curve that came before these.
    """

    epochs: int
    lr: float
    decay: str
    warmup: float
    before: int = 0


@dataclass(frozen=True)
class LastTraining:
    """How the small network is trained.

    Args:
        phase: Name of the phase.
        training: Epochs and learning rates.
        offset: Epochs of the run before, which decide the order of the data.
    """

    phase: str
    training: Training
    offset: int


class Method(Protocol):
    """A way from the dense network to a trained small one.

    With D dense epochs, A = admm_iterations * admm_epoch and F finetune epochs, every method
    spends D + A + F epochs on the weights it ends with, unless `stopping` ends ADMM early.

    Attributes:
        starts_fresh: Whether the last training starts from random weights, not from the cut.
        needs_channels: Whether it means nothing for units finer than channels.
    """

    starts_fresh: bool
    needs_channels: bool

    def check(self, course: AdmmCourse, rho: float, momentum: Momentum | None) -> None:
        """Refuse settings that cannot end well, before anything is trained.

        Args:
            course: The A epochs before the cut.
            rho: Penalty parameter of the first iteration.
            momentum: Of the optimizer; None for Adam-like ones.

        Raises:
            ConfigError: With the setting and its bound.
        """

    def sparsify(
        self,
        constrained: ConstrainedModel,
        course: AdmmCourse,
        functions: TrainingFunctions,
        *,
        rho: float,
        offset: int,
    ) -> Stopped | None:
        """Train the network in place towards its constraint, and set the support of its state.

        Args:
            constrained: The network with its groups.
            course: The A epochs before the cut.
            functions: Functions that train, validate and optimize, and the observer.
            rho: Penalty parameter of the first iteration.
            offset: Epochs of the run before.

        Returns:
            What ended the training, if that is more than its budget.
        """

    def last_training(
        self, dense: Training, course: AdmmCourse, finetune: Training
    ) -> LastTraining:
        """Say how the small network is trained.

        Args:
            dense: Of the dense network, D epochs.
            course: The A epochs before the cut.
            finetune: As the settings have it, F epochs.
        """


class Finetuned:
    """What methods share that train before the cut and finetune what it leaves."""

    starts_fresh = False
    needs_channels = False

    def check(self, course: AdmmCourse, rho: float, momentum: Momentum | None) -> None:
        """Refuse nothing."""

    def last_training(
        self, dense: Training, course: AdmmCourse, finetune: Training
    ) -> LastTraining:
        """Finetune for F epochs; `admm_decay=joint` goes on with the cosine of the A epochs."""
        settings = course.settings
        if settings.is_joint_with(finetune.decay):
            finetune = replace(finetune, before=settings.epochs, warmup=settings.admm_warmup)
        return LastTraining("finetune", finetune, dense.epochs + settings.epochs)
