"""The W-step's penalty, added by hooks around every optimizer step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from admm_exp.errors import TrainingError
from admm_exp.pruning.surgery.groups import Slice
from admm_exp.pruning.w_step import W_STEPS, Constrained, ParamGroup


class StepCount:
    """Counts the optimizer steps that were taken with the penalty.

    Attributes:
        n: Steps so far.
        path: Sum of their learning rates, each that of the fastest parameter group.
        still: Constrained parameters whose learning rate was 0 in all of them, by name.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.n = 0
        self.path = 0.0
        self._names = names
        self._still: list[ParamGroup] | None = None

    @property
    def still(self) -> tuple[str, ...]:
        """Name the constrained parameters that no step could move."""
        members = (p for group in self._still or () for p in group["params"])
        return tuple(self._names[id(p)] for p in members if id(p) in self._names)

    def add(self, optimizer: Optimizer) -> None:
        """Count a step, before it is taken."""
        self.n += 1
        self.path += max(float(group["lr"]) for group in optimizer.param_groups)
        if self._still != []:
            groups = optimizer.param_groups if self._still is None else self._still
            self._still = [group for group in groups if float(group["lr"]) == 0.0]

    def warning(self) -> str | None:
        """Say which constrained parameters no step could move, or None."""
        if not self.still:
            return None
        more = f" and {len(self.still) - 1} more" if len(self.still) > 1 else ""
        return (
            f"the learning rate of {self.still[0]}{more} was 0 in every step, so ADMM cannot pull "
            f"it to zero: give its parameter group a learning rate, or exclude the layer"
        )


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
    names = {id(p): s.parameter for s, p in _pairs(constrained)}
    form, count, depth = W_STEPS[w_step](constrained, optimizer), StepCount(names), 0
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
        count.add(optimizer)
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
    if missing := [s.parameter for s, p in _pairs(constrained) if id(p) not in owned]:
        raise TrainingError(
            f"the optimizer does not train {missing[0]}, which is to be pruned: "
            f"give it all parameters of the model"
        )


def _pairs(constrained: Constrained) -> list[tuple[Slice, nn.Parameter]]:
    return list(zip(constrained.slices, constrained.parameters, strict=True))
