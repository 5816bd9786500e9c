"""Masks held exactly through training, whatever the optimizer remembers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.pruning.surgery.groups import Slice


@contextmanager
def masked(
    optimizer: Optimizer,
    parameters: Sequence[nn.Parameter],
    slices: Sequence[Slice],
    masks: Sequence[Tensor],
) -> Iterator[None]:
    """Set masked weights to zero now and after each step of the optimizer, inside the block.

    What the optimizer remembers of a masked weight, such as its momentum, is set to zero as well.

    Args:
        optimizer: Optimizer that trains the network.
        parameters: The parameter behind each slice.
        slices: Constrained slices.
        masks: Broadcastable bool masks of the slices, True = kept.
    """

    @torch.no_grad()
    def hold(*_: Any) -> None:
        for slice_, parameter, mask in zip(slices, parameters, masks, strict=True):
            slice_.of(parameter.detach()).mul_(mask)
            for memory in optimizer.state.get(parameter, {}).values():
                if isinstance(memory, Tensor) and memory.shape == parameter.shape:
                    slice_.of(memory).mul_(mask)

    handle = optimizer.register_step_post_hook(hold)
    try:
        hold()
        yield
    finally:
        handle.remove()
