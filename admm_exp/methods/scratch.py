"""The small architecture trained from random weights."""

from dataclasses import replace

from admm_exp.admm.rho_policy import RhoPolicy
from admm_exp.config.settings import ExperimentConfig, Schedule
from admm_exp.errors import ConfigError
from admm_exp.methods.method import Finetuned, LastTraining, Task
from admm_exp.pruning.constrained import ConstrainedModel


class Scratch(Finetuned):
    """Train the architecture that the cut of the dense network leaves, as the dense one was.

    References:
        Liu et al. 2019, Rethinking the value of network pruning, arXiv 1810.05270.
    """

    starts_fresh = True

    def check(self, config: ExperimentConfig, rho_policy: RhoPolicy, steps_per_epoch: int) -> None:
        """Refuse to start from a run, whose small network has no random weights to start from."""
        if config.from_run is not None:
            raise ConfigError(
                f"method=scratch trains from random weights and cannot go on from a run, got "
                f"from_run={config.from_run}: leave one of the two out"
            )

    def sparsify(self, constrained: ConstrainedModel, task: Task) -> None:
        """Leave the network as it is: only its architecture is wanted."""

    def last_training(self, schedule: Schedule) -> LastTraining:
        """Train for D + A + F epochs with the dense network's learning rates."""
        epochs = schedule.dense.epochs + schedule.admm_epochs + schedule.finetune.epochs
        settings = replace(
            schedule.finetune,
            epochs=epochs,
            lr=schedule.dense.lr,
            decay=schedule.dense.decay,
            warmup=schedule.dense.warmup,
        )
        return LastTraining("scratch", settings, 0)
