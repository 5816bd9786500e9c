"""Optimizers by name."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.admm.rho import Momentum


def build_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    lr: float,
    *,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> Optimizer:
    """Build the optimizer of a phase; on CUDA its step is one fused kernel.

    On a CPU the fused step is 3 % of a training step at best and rounds differently.

    Args:
        name: "sgd" or "adamw"; momentum and nesterov belong to "sgd".
        parameters: Parameters to train.
        lr: Learning rate.
        momentum: Momentum, in [0, 1).
        weight_decay: Weight decay, coupled for sgd, decoupled for adamw.
        nesterov: Nesterov momentum; needs momentum > 0.

    Raises:
        ValueError: If the name is unknown.
    """
    parameters = list(parameters)
    fused = True if all(parameter.is_cuda for parameter in parameters) else None
    if name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
            fused=fused,
        )
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay, fused=fused)
    raise ValueError(f"optimizer must be sgd or adamw, got {name!r}")


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """List the gradients that an optimizer's step would take."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [p.grad for p in parameters if p.grad is not None]


def clip_gradients(optimizer: Optimizer, max_norm: float | None) -> Optimizer:
    """Let no step of an optimizer follow a gradient longer than a limit; None: no limit.

    Hooks run in the order in which they were added: gradients that were averaged before are
    clipped, and the pull of ADMM, added after, is not.

    Args:
        optimizer: The optimizer.
        max_norm: Largest l2 norm of all gradients together.

    References:
        Pascanu et al. 2013, arXiv 1211.5063, algorithm 1.
    """
    if max_norm is not None:
        optimizer.register_step_pre_hook(partial(_clip, max_norm))
    return optimizer


def _clip(max_norm: float, optimizer: Optimizer, *_: Any) -> None:
    nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], max_norm)


def momentum_of(optimizer: Optimizer) -> Momentum | None:
    """Read the momentum that lengthens every step of SGD; None for optimizers that scale steps."""
    if not isinstance(optimizer, torch.optim.SGD):
        return None
    group = optimizer.param_groups[0]
    return Momentum(float(group.get("momentum", 0.0)), bool(group.get("nesterov", False)))


def left_out_step(optimizer: Optimizer) -> bool:
    """Tell, in a hook after a step, whether a fused optimizer left the step out.

    It is called even if gradients overflowed, and leaves the weights alone where the gradient
    scaler says so; unfused ones are not called. Waits for the device under a gradient scaler.
    """
    found_inf = getattr(optimizer, "found_inf", None)  # there during a scaled step alone
    return found_inf is not None and bool(found_inf)
