"""The small architecture trained from random weights."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from admm_exp.config import Schedule
from admm_exp.methods.method import Finetuned, LastTraining, Task
from admm_exp.pruning.constrained import ConstrainedModel


class Scratch(Finetuned):
    """Train the architecture that the cut of the dense network leaves, as the dense one was.

    References:
        Liu et al. 2019, Rethinking the value of network pruning, arXiv 1810.05270.
    """

    def sparsify(self, constrained: ConstrainedModel, task: Task) -> None:
        """Leave the network as it is: only its architecture is wanted."""

    def start(self, small: nn.Module, fresh: Callable[[], nn.Module]) -> nn.Module:
        """Start from random weights."""
        return fresh()

    def last_training(self, schedule: Schedule) -> LastTraining:
        """Train for D + A + F epochs with the dense network's learning rates."""
        epochs = schedule.dense.epochs + schedule.admm_epochs + schedule.finetune.epochs
        settings = replace(
            schedule.finetune,
            epochs=epochs,
            lr=schedule.dense.lr,
            decay=schedule.dense.decay,
            warmup_epochs=schedule.dense.warmup_epochs,
        )
        return LastTraining("scratch", settings, 0)
