"""Gradual pruning: more and more channels at exactly zero while the network trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from admm_exp.admm.groups import Units
from admm_exp.admm.metrics import Metric
from admm_exp.admm.ramp import loosened, ramped_share
from admm_exp.admm.state import initial_state
from admm_exp.methods.method import Finetuned
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.train import train_at
from admm_exp.pruning.constrained import ConstrainedModel


class ZeroLast:
    """A metric that ranks units at exactly zero behind all others, so that none comes back.

    Args:
        metric: Score of the other units.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def __call__(self, theta: Tensor, group: Units) -> Tensor:
        """Score (n_units, p) -> (n_units,)."""
        return self.metric(theta, group).masked_fill(~theta.any(dim=1), -torch.inf)


class Gradual(Finetuned):
    """Prune a little before every one of the A epochs, with a share that rises as a cubic.

    Args:
        ramp: Fraction of the A epochs over which the share rises, in [0, 1]; the rest trains with
            all units to be removed at zero.

    References:
        Zhu and Gupta 2017, arXiv 1710.01878.

    Raises:
        ValueError: If ramp is outside [0, 1].
    """

    def __init__(self, ramp: float) -> None:
        if not 0.0 <= ramp <= 1.0:
            raise ValueError(f"ramp must be in [0, 1], got {ramp}")
        self.ramp = ramp

    def sparsify(
        self,
        constrained: ConstrainedModel,
        course: AdmmCourse,
        functions: TrainingFunctions,
        *,
        rho: float,
        offset: int,
    ) -> None:
        """Train for A epochs; the last ones have all units to be removed at zero."""
        lrs = course.lrs
        whole = constrained.constraint
        ranked = replace(whole, metric=ZeroLast(whole.metric))

        @contextmanager
        def pruned(optimizer: Optimizer, epoch: int) -> Iterator[None]:
            share = ramped_share(epoch + 1, lrs.epochs, self.ramp)
            constrained.state = initial_state(
                constrained.weights(), loosened(ranked, share), constrained.rho
            )
            with constrained.removal().holding(optimizer, constrained.model):
                yield

        train_at(
            constrained.model,
            "gradual",
            functions,
            lrs,
            offset,
            around_epoch=pruned,
            constrained=constrained,
        )
