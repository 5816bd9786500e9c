"""Proximal steps on the norms of units, as a group lasso takes them after every gradient step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from admm_exp.admm.groups import ChannelGroup, unit_matrix
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.training.optimizer import left_out_step


@torch.no_grad()
def threshold_norms(weights: Sequence[Tensor], groups: Sequence[ChannelGroup]) -> list[float]:
    """Find the norm of the strongest unit to be removed in every group, 0 where all stay."""
    norms = []
    for group in groups:
        ordered = unit_matrix(weights, group).norm(dim=1).sort().values
        n_removed = group.n_units - group.n_kept
        norms.append(float(ordered[n_removed - 1]) if n_removed else 0.0)
    return norms


@torch.no_grad()
def shrink_(
    weights: Sequence[Tensor], groups: Sequence[ChannelGroup], amounts: Sequence[float]
) -> None:
    """Shorten every unit by an amount, in place: the proximal step of a sum of norms.

        theta = max(0, 1 - amount / ||theta||) * theta

    Args:
        weights: Constrained weights.
        groups: Channel groups, disjoint.
        amounts: What the units of each group lose of their norm, >= 0.

    References:
        Parikh and Boyd 2014, doi 10.1561/2400000003, section 6.5.1.
    """
    for group, amount in zip(groups, amounts, strict=True):
        norms = unit_matrix(weights, group).norm(dim=1)
        factors = (1.0 - amount / norms).clamp_(min=0.0).nan_to_num_(nan=0.0)
        for member in group.members:
            weight = weights[member.weight].movedim(member.dim, 0)
            scale = torch.ones(len(weight), dtype=weight.dtype, device=weight.device)
            if member.rows is None:
                scale.copy_(factors)
            else:
                scale[member.rows.to(scale.device)] = factors.to(scale.dtype).unsqueeze(1)
            weight.mul_(scale.view(-1, *[1] * (weight.dim() - 1)))


@contextmanager
def shrinking(
    optimizer: Optimizer, constrained: ConstrainedModel, strengths: Sequence[float]
) -> Iterator[None]:
    """Shrink all units by lr * strength after each step of the optimizer, inside the block.

    Args:
        optimizer: Optimizer that trains the network.
        constrained: The network with its groups.
        strengths: One a group, >= 0.
    """

    def shrink(*_: Any) -> None:
        if left_out_step(optimizer):
            return
        lr = float(optimizer.param_groups[0]["lr"])
        amounts = [lr * strength for strength in strengths]
        shrink_(constrained.weights(), constrained.channel_groups, amounts)

    handle = optimizer.register_step_post_hook(shrink)
    try:
        yield
    finally:
        handle.remove()
