"""The W-step's penalty, added by hooks around every optimizer step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer

from admm_exp.errors import TrainingError
from admm_exp.pruning.w_step import W_STEPS, Constrained


class StepCount:
    """Counts the optimizer steps that were taken with the penalty."""

    n = 0


@contextmanager
def penalty_hook(
    optimizer: Optimizer, constrained: Constrained, w_step: str = "gradient"
) -> Iterator[StepCount]:
    """Pull W towards T = Z - U at each step of the optimizer, inside the block.

    The hooks run after gradient accumulation, unscaling, all-reduce and clipping, so the task
    gradient is clipped and the penalty is not; they need no autograd.

    Args:
        optimizer: Optimizer that trains the network.
        constrained: Slices of its parameters, with targets and rho.
        w_step: "gradient", "folded", "proximal" or "reduced".

    Yields:
        The number of steps so far.

    Raises:
        TrainingError: If the optimizer lacks a constrained parameter, does not suit the form, is
            stepped with a closure, was never stepped inside the block, or failed in a step and
            went on.
    """
    _check_owned(optimizer, constrained)
    form, count, depth = W_STEPS[w_step](constrained, optimizer), StepCount(), 0
    param_groups = optimizer.param_groups

    def prepare(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is not None:
            raise TrainingError(
                "the optimizer was stepped with a closure, which overwrites the penalty: "
                "compute the gradients first and call step() without arguments"
            )
        depth += 1
        if depth > 1:  # a subclass's step() that calls super().step() runs the hooks twice
            return
        count.n += 1
        scale = getattr(optimizer, "grad_scale", None)  # fused steps unscale inside the kernel
        form.before(optimizer, 1.0 if scale is None else float(scale))

    def finish(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            form.after(optimizer)

    handles = [
        optimizer.register_step_pre_hook(prepare),
        optimizer.register_step_post_hook(finish),
    ]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()
        if depth > 0:
            optimizer.param_groups = param_groups
    if depth > 0:
        raise TrainingError(
            "a step of the optimizer failed and the train function went on, without ADMM from "
            "there: let the error out"
        )
    if count.n == 0:
        raise TrainingError(
            "the train function never stepped the optimizer it was given, so ADMM had no effect: "
            "call step() on that optimizer"
        )


def _check_owned(optimizer: Optimizer, constrained: Constrained) -> None:
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    pairs = zip(constrained.slices, constrained.parameters, strict=True)
    if missing := [s.parameter for s, p in pairs if id(p) not in owned]:
        raise TrainingError(
            f"the optimizer does not train {missing[0]}, which is to be pruned: "
            f"give it all parameters of the model"
        )
