"""Whether the steps of an optimizer are as long as its gradients ask for."""

from collections import OrderedDict, defaultdict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

STRONGER = 1000.0
"""Factor on the gradients of the second of two trials."""
FOLLOWS = 0.1
"""An optimizer follows gradients if its steps get at least this part of as much longer."""
STEPS = 10
"""Steps of a trial, of which the last is measured; RAdam rescales from the sixth on."""
SIDE = 4


def follows_gradients(optimizer: Optimizer) -> bool | None:
    """Try some steps on a weight of its own: do stronger gradients make longer ones?

    SGD follows; Adam, Lion, LARS and other optimizers that rescale gradients do not, whoever wrote
    them. The optimizer and what it trains stay as they are.

    Args:
        optimizer: Any optimizer.

    Returns:
        None if no trial can be made, or the weight does not move.
    """
    gradient = torch.linspace(0.01, 0.02, SIDE * SIDE).view(SIDE, SIDE)
    try:
        short, long = (_last_step(optimizer, factor * gradient) for factor in (1.0, STRONGER))
    except Exception:  # whatever a step of somebody else's needs that a trial has not
        return None
    if not 0.0 < short < float("inf"):
        return None
    return long >= FOLLOWS * STRONGER * short


def _last_step(optimizer: Optimizer, gradient: Tensor) -> float:
    """Measure a step on one weight, of a twin with the settings of the first parameter group."""
    group = optimizer.param_groups[0]
    device = group["params"][0].device
    weight = nn.Parameter(torch.eye(SIDE, device=device))
    twin = object.__new__(type(optimizer))
    vars(twin).update(vars(optimizer))
    for name in vars(optimizer):
        if name.endswith("_hooks"):
            setattr(twin, name, OrderedDict())
    settings = {"params": [weight], "lr": 0.01, "weight_decay": 0.0}
    twin.state, twin.param_groups = defaultdict(dict), [{**group, **settings}]
    before = weight.detach()
    for _ in range(STEPS):
        before = weight.detach().clone()
        weight.grad = gradient.to(device, copy=True)
        twin.step()
    return float((weight.detach() - before).norm())
