"""What a method decides: how a network gets sparse, and how the small one is trained."""

from dataclasses import dataclass
from typing import Protocol

from admm_exp.admm.rho_policy import RhoPolicy
from admm_exp.config.settings import ExperimentConfig, FinetuneSettings, Schedule
from admm_exp.phases.parts import Parts
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import Stopped
from admm_exp.training.learning_rate import LearningRates, admm_lrs


@dataclass(frozen=True)
class Task:
    """What a method is given to make a network sparse.

    Args:
        config: The settings.
        rho_policy: Chooses rho of every ADMM iteration.
        parts: Functions that train, validate and optimize, and the observer.
        steps_per_epoch: Optimizer steps an epoch takes.
        offset: Epochs of the run before.
    """

    config: ExperimentConfig
    rho_policy: RhoPolicy
    parts: Parts
    steps_per_epoch: int
    offset: int


@dataclass(frozen=True)
class LastTraining:
    """How the small network is trained.

    Args:
        phase: Name of the phase.
        settings: Epochs and learning rates.
        offset: Epochs of the run before, which decide the order of the data.
    """

    phase: str
    settings: FinetuneSettings
    offset: int


class Method(Protocol):
    """A way from the dense network to a trained small one.

    With D dense epochs, A = admm_iterations * admm_epoch and F finetune epochs, every method
    spends D + A + F epochs on the weights it ends with, unless `schedule.stopping` ends ADMM early.

    `starts_fresh` says whether the last training starts from random weights, not from the cut.
    """

    starts_fresh: bool

    def check(self, config: ExperimentConfig, rho_policy: RhoPolicy, steps_per_epoch: int) -> None:
        """Refuse settings that cannot end well, before anything is trained.

        Raises:
            ConfigError: With the setting and its bound.
        """

    def sparsify(self, constrained: ConstrainedModel, task: Task) -> Stopped | None:
        """Train the network in place towards its constraint, and set the support of its state.

        Returns:
            What ended the training, if that is more than its budget.
        """

    def last_training(self, schedule: Schedule) -> LastTraining:
        """Say how the small network is trained."""


class Finetuned:
    """What methods share that train before the cut and finetune what it leaves."""

    starts_fresh = False

    def check(self, config: ExperimentConfig, rho_policy: RhoPolicy, steps_per_epoch: int) -> None:
        """Refuse nothing."""

    def last_training(self, schedule: Schedule) -> LastTraining:
        """Finetune for F epochs."""
        return LastTraining(
            "finetune", schedule.finetune, schedule.dense.epochs + schedule.admm_epochs
        )


def pruning_lrs(schedule: Schedule) -> LearningRates:
    """Describe the learning rates of the A epochs before the cut."""
    return admm_lrs(
        schedule.admm_decay,
        schedule.admm_lr,
        schedule.admm_iterations,
        schedule.admm_epoch,
        warmup=schedule.admm_warmup,
        per=schedule.lr_per,
    )
