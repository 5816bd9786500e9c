"""The W-step's penalty as a gradient, added by a hook just before every optimizer step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.admm.update import add_penalty_gradient_
from admm_exp.errors import TrainingError
from admm_exp.pruning.groups import Slice


@contextmanager
def penalty_hook(
    optimizer: Optimizer,
    parameters: Sequence[nn.Parameter],
    slices: Sequence[Slice],
    targets: Callable[[], Sequence[Tensor]],
    rho: Callable[[], float],
) -> Iterator[None]:
    """Add rho * (W - T) to the gradients before each step of the optimizer, inside the block.

    The hook runs after gradient accumulation, unscaling, all-reduce and clipping, so the task
    gradient is clipped and the penalty is not; it needs no autograd.

    Args:
        optimizer: Optimizer that trains the network.
        parameters: The parameter behind each slice.
        slices: Constrained slices.
        targets: Returns T = Z - U, one tensor shaped like each slice.
        rho: Returns the penalty parameter.

    Raises:
        TrainingError: If the optimizer lacks a constrained parameter, is stepped with a closure,
            was never stepped inside the block, or failed in a step and went on.
    """
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [s.parameter for s, p in zip(slices, parameters, strict=True) if id(p) not in owned]
    if missing:
        raise TrainingError(
            f"the optimizer does not train {missing[0]}, which is to be pruned: "
            f"give it all parameters of the model"
        )
    n_steps = depth = 0

    def add_penalty(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal n_steps, depth
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is not None:
            raise TrainingError(
                "the optimizer was stepped with a closure, which overwrites the penalty: "
                "compute the gradients first and call step() without arguments"
            )
        depth += 1
        if depth > 1:  # a subclass's step() that calls super().step() runs the hooks twice
            return
        n_steps += 1
        scale = getattr(optimizer, "grad_scale", None)  # fused steps unscale inside the kernel
        factor = rho() if scale is None else rho() * float(scale)
        views = [s.of(p.detach()) for s, p in zip(slices, parameters, strict=True)]
        gradients = [s.of(_gradient(p)) for s, p in zip(slices, parameters, strict=True)]
        add_penalty_gradient_(gradients, views, targets(), factor)

    def end_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth
        depth -= 1

    handles = [
        optimizer.register_step_pre_hook(add_penalty),
        optimizer.register_step_post_hook(end_step),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if depth > 0:
        raise TrainingError(
            "a step of the optimizer failed and the train function went on, without ADMM from "
            "there: let the error out"
        )
    if n_steps == 0:
        raise TrainingError(
            "the train function never stepped the optimizer it was given, so ADMM had no effect: "
            "call step() on that optimizer"
        )


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
