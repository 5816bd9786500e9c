"""Gradients of the task, for metrics that score by them."""

import copy
from typing import Any

import torch
from torch.optim import Optimizer

from admm_exp.admm.metrics import GradientMetric
from admm_exp.errors import TrainingError
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.training.seeding import restore_rng_state, rng_state


class _EnoughError(BaseException):
    """Leaves a train function; no `except Exception` of the user's stops it."""


def learn_gradients(
    constrained: ConstrainedModel, functions: TrainingFunctions, epoch: int = 0
) -> None:
    """Show a metric that asks for it the gradients of the task, and choose the support anew.

    The user's train function runs on a copy of the network with a learning rate of 0, so that any
    loss and any data will do; it is left after as many steps as the metric wants. The random
    generators end as they were.

    Args:
        constrained: The network before the pruning; left as it is but for its ADMM state.
        functions: The user's functions.
        epoch: Epoch that the train function is asked to train, which decides the data.

    Raises:
        TrainingError: If the train function never steps the optimizer.
    """
    metric = constrained.constraint.metric
    if not isinstance(metric, GradientMetric):
        return
    generators, probe = rng_state(), copy.deepcopy(constrained)
    optimizer = functions.optimizer_fn(probe.model.parameters(), 0.0)
    sums = [torch.zeros_like(weight) for weight in probe.weights()]
    seen = 0

    def note(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal seen
        for total, gradient in zip(sums, probe.gradients(), strict=True):
            total.add_(gradient.abs())
        seen += 1
        if seen == metric.batches:
            raise _EnoughError

    hook = optimizer.register_step_pre_hook(note)
    try:
        functions.train_fn(probe.model, optimizer, epoch)
    except _EnoughError:
        pass
    finally:
        hook.remove()
        restore_rng_state(generators)
    if not seen:
        raise TrainingError(
            "the train function never stepped the optimizer it was given: "
            "call step() on that optimizer"
        )
    metric.learn(tuple(constrained.constraint.unit_matrices([total / seen for total in sums])))
    constrained.loosen(1.0)
