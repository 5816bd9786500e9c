"""Forms of the W-step's pull towards Z - U, as what happens around an optimizer's step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from admm_exp.admm.update import add_penalty_gradient_, add_target_gradient_, pull_
from admm_exp.errors import TrainingError
from admm_exp.pruning.surgery.groups import Slice
from admm_exp.training.optimizer import left_out_step

ParamGroup = dict[str, Any]


@dataclass(frozen=True)
class Constrained:
    """The constrained slices of an optimizer's parameters, with what pulls at them.

    Args:
        slices: Constrained slices.
        parameters: The parameter behind each slice.
        targets: Returns T = Z - U, one tensor shaped like each slice.
        rho: Returns the penalty parameter.
        kept: Returns which units Z keeps, one bool mask that broadcasts to each slice.
    """

    slices: Sequence[Slice]
    parameters: Sequence[nn.Parameter]
    targets: Callable[[], Sequence[Tensor]]
    rho: Callable[[], float]
    kept: Callable[[], Sequence[Tensor]]

    def only(self, is_wanted: Callable[[Slice], bool]) -> "Constrained":
        """Leave out the slices that are not wanted."""
        places = [i for i, part in enumerate(self.slices) if is_wanted(part)]

        def chosen(all_of: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
            tensors = all_of()
            return [tensors[i] for i in places]

        return Constrained(
            [self.slices[i] for i in places],
            [self.parameters[i] for i in places],
            partial(chosen, self.targets),
            self.rho,
            partial(chosen, self.kept),
        )

    def views(self) -> list[Tensor]:
        """View W; a whole parameter is its own view, to be changed without autograd alone."""
        return [p if s.is_whole else s.of(p.detach()) for s, p in self._pairs()]

    def gradients(self) -> list[Tensor]:
        """View the gradients of W; missing ones are made, zero."""
        return [s.of(_gradient(p)) for s, p in self._pairs()]

    def _pairs(self) -> list[tuple[Slice, nn.Parameter]]:
        return list(zip(self.slices, self.parameters, strict=True))


class PullForm(Protocol):
    """What happens just before and just after every step of the optimizer."""

    def before(self, optimizer: Optimizer, scale: float) -> None:
        """Prepare the step.

        Args:
            optimizer: Optimizer that trains the network.
            scale: Factor that is still on the gradients (loss scaling), 1 if none.
        """

    def after(self, optimizer: Optimizer) -> None:
        """Finish the step."""


class GradientStep:
    """Add rho * (W - T) to the gradients: exact for every optimizer that follows gradients."""

    def __init__(self, constrained: Constrained, optimizer: Optimizer) -> None:
        self._held = constrained
        self._direction = _direction(optimizer, constrained.parameters)

    def before(self, optimizer: Optimizer, scale: float) -> None:
        """Add the penalty's gradient."""
        held = self._held
        factor = held.rho() * scale * self._direction
        add_penalty_gradient_(held.gradients(), held.views(), held.targets(), factor)

    def after(self, optimizer: Optimizer) -> None:
        """Leave the weights as the optimizer left them."""


class ReducedStep:
    """Pull the units outside the support alone.

    SGD gets rho * (W - T) in the gradients of those units; other optimizers, which may rescale it,
    step on the task alone, and the units are pulled after the step as in `ProximalStep`.

    Z of the kept units follows W at every step, so that W moves as if Z had been minimised out of
    f(W) + rho/2 ||W - Z + U||^2 for this support. The kept units train freely; the other forms hold
    them near the Z of the iteration before. The Z-step starts from the Z that followed, see
    `admm_exp.admm.state.following`.

    References:
        Bertsekas 1982, Constrained Optimization and Lagrange Multiplier Methods, section 3.1 (slack
        variables minimised out of an augmented Lagrangian).
    """

    def __init__(self, constrained: Constrained, optimizer: Optimizer) -> None:
        self._held = constrained
        self._follows_gradients = isinstance(optimizer, SGD)
        self._direction = (
            _direction(optimizer, constrained.parameters) if self._follows_gradients else 1.0
        )
        self._targets: Sequence[Tensor] = ()
        self._shares: list[Tensor] = []

    def before(self, optimizer: Optimizer, scale: float) -> None:
        """Add the gradient of the penalty on the units that are to be removed."""
        if not self._follows_gradients:
            return
        held = self._held
        views, targets, shares = held.views(), held.targets(), self._shares_now()
        factor = held.rho() * scale * self._direction
        add_penalty_gradient_(held.gradients(), views, targets, factor, shares)

    def after(self, optimizer: Optimizer) -> None:
        """Pull the units that are to be removed, unless the gradients did."""
        if not self._follows_gradients:
            _pull_all_(self._held, optimizer, self._shares_now())

    def _shares_now(self) -> list[Tensor]:
        """Spread 1 over what is pulled; made anew after an update of Z and U."""
        held = self._held
        if held.targets() is not self._targets:
            pairs = zip(held.kept(), held.views(), strict=True)
            self._shares = [_share_of(~kept, view) for kept, view in pairs]
            self._targets = held.targets()
        return self._shares


class FoldedStep:
    """Subtract rho * T from the gradients and let SGD's weight decay, raised by rho, add rho * W.

    The same numbers as `GradientStep` up to rounding, with less memory traffic. The weight decay is
    raised for the time of a step only, so that learning-rate schedulers see their own groups.

    Raises:
        TrainingError: If the optimizer is not torch.optim.SGD.
    """

    def __init__(self, constrained: Constrained, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, SGD):
            raise TrainingError(
                f"w_step=folded needs torch.optim.SGD, whose weight decay is a gradient, got "
                f"{type(optimizer).__name__}: take gradient or proximal"
            )
        self._whole = constrained.only(lambda part: part.is_whole)
        # A slice of a parameter has no weight decay of its own.
        self._parts = GradientStep(constrained.only(lambda part: not part.is_whole), optimizer)
        self._folded = {id(parameter) for parameter in self._whole.parameters}
        self._direction = _direction(optimizer, constrained.parameters)
        self._groups: list[ParamGroup] = []

    def before(self, optimizer: Optimizer, scale: float) -> None:
        """Subtract rho * T and raise the weight decay of the constrained parameters by rho."""
        whole, rho = self._whole, self._whole.rho()
        # torch turns the gradients of a group that maximizes around, and then adds the decay
        add_target_gradient_(whole.gradients(), whole.targets(), rho * scale * self._direction)
        self._parts.before(optimizer, scale)
        self._groups = optimizer.param_groups
        optimizer.param_groups = [
            part for group in self._groups for part in _split(group, self._folded, rho)
        ]

    def after(self, optimizer: Optimizer) -> None:
        """Put the weight decay back."""
        optimizer.param_groups = self._groups


class ProximalStep:
    """Step on the task alone, then W = (W + step * rho * T) / (1 + step * rho).

    Stable for every rho. The step is lr (1 - dampening) / (1 - momentum), so that SGD comes to rest
    where the gradient form does; adaptive optimizers, which would rescale the penalty, get it
    unscaled.

    References:
        Loshchilov and Hutter 2019, arXiv 1711.05101 (why a pull must not pass through Adam).
    """

    def __init__(self, constrained: Constrained, optimizer: Optimizer) -> None:
        self._held = constrained

    def before(self, optimizer: Optimizer, scale: float) -> None:
        """Leave the gradients to the task."""

    def after(self, optimizer: Optimizer) -> None:
        """Pull the weights towards T."""
        _pull_all_(self._held, optimizer)


W_STEPS: Mapping[str, Callable[[Constrained, Optimizer], PullForm]] = {
    "gradient": GradientStep,
    "folded": FoldedStep,
    "proximal": ProximalStep,
    "reduced": ReducedStep,
}


def _pull_all_(
    held: Constrained, optimizer: Optimizer, shares: Sequence[Tensor] | None = None
) -> None:
    """Pull the weights of every parameter group by the length of its own step, if it was taken."""
    if left_out_step(optimizer):
        return
    views, targets = held.views(), held.targets()
    for group in optimizer.param_groups:
        members = {id(p) for p in group["params"]}
        mine = [i for i, p in enumerate(held.parameters) if id(p) in members]
        if mine:
            step = float(group["lr"]) * _lengthening(group)
            own = None if shares is None else [shares[i] for i in mine]
            pull_([views[i] for i in mine], [targets[i] for i in mine], held.rho(), step, own)


def _direction(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> float:
    """Give 1 where a step follows the negative gradient, -1 where it maximizes.

    Raises:
        TrainingError: If constrained parameters are both minimized and maximized.
    """
    held = {id(parameter) for parameter in parameters}
    found = {
        bool(group.get("maximize", False))
        for group in optimizer.param_groups
        if any(id(p) in held for p in group["params"])
    }
    if len(found) > 1:
        raise TrainingError(
            "parameter groups with maximize=True and others hold weights that are to be pruned: "
            "take w_step=proximal, whose pull does not pass through the gradients"
        )
    return -1.0 if found == {True} else 1.0


def _split(group: ParamGroup, folded: set[int], rho: float) -> list[ParamGroup]:
    mine = [p for p in group["params"] if id(p) in folded]
    others = [p for p in group["params"] if id(p) not in folded]
    raised = group | {"params": mine, "weight_decay": group["weight_decay"] + rho}
    return [part for part in (group | {"params": others}, raised) if part["params"]]


def _lengthening(group: ParamGroup) -> float:
    """How much longer than lr momentum makes the steps along a constant gradient."""
    momentum, dampening = (float(group.get(key, 0.0)) for key in ("momentum", "dampening"))
    return (1.0 - dampening) / (1.0 - momentum) if momentum else 1.0


def _share_of(is_pulled: Tensor, weight: Tensor) -> Tensor:
    """Spread 0 and 1 over a weight; written out on a GPU, whose foreach kernels need that."""
    if weight.is_cpu:
        return is_pulled.to(weight.dtype).expand_as(weight)
    return torch.zeros_like(weight).masked_fill_(is_pulled, 1.0)


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
