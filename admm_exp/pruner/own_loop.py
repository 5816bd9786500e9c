"""What a training loop of one's own has done with ADMM so far, and what is wrong with it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim import Optimizer

from admm_exp.admm.convergence import Residuals
from admm_exp.admm.rho import auto_rho
from admm_exp.admm.stopping import flipping_complaint
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.penalty import StepCount
from admm_exp.training.optimizer import momentum_of


class OwnLoop:
    """W-steps and updates in the order of a user's loop, watched.

    Args:
        constrained: The network with its groups and ADMM state.
    """

    def __init__(self, constrained: ConstrainedModel) -> None:
        self._constrained = constrained
        self._w_step = "gradient"
        self._past: list[Residuals] = []
        self._path, self._momentum = 0.0, 0.0
        self._has_complained = False

    @contextmanager
    def pulling(self, optimizer: Optimizer, w_step: str) -> Iterator[StepCount]:
        """Pull W towards Z - U inside the block, and warn of weights that no step could move."""
        self._w_step = w_step
        with self._constrained.penalty(optimizer, w_step) as steps:
            yield steps
        momentum = momentum_of(optimizer)
        self._path, self._momentum = self._path + steps.path, momentum.size if momentum else 0.0
        if warning := steps.warning():
            warnings.warn(warning, stacklevel=3)

    def update(self, relaxation: float) -> Residuals:
        """Do the Z- and U-step, and warn once of a support that flips."""
        self._past.append(self._constrained.update(relaxation, w_step=self._w_step))
        auto = auto_rho(self._path, self._momentum) if self._path else None
        complaint = flipping_complaint(self._past, self._w_step, auto)
        if complaint and not self._has_complained:
            self._has_complained = True
            warnings.warn(complaint, stacklevel=3)
        return self._past[-1]
