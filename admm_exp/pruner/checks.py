"""What ADMMPruner accepts."""

from math import inf
from typing import Any

from torch.optim import SGD, Optimizer

from admm_exp.admm.metrics import GradientMetric, Metric
from admm_exp.admm.rho import Momentum
from admm_exp.admm.settings import AdmmSettings
from admm_exp.errors import ConfigError, require
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.pruning.w_step import W_STEPS
from admm_exp.training.learning_rate import training_lrs
from admm_exp.training.step_length import follows_gradients

UNKNOWN_RHO = 1.0
"""Stands in for rho="auto" until the learning rates are known; T does not depend on it then."""


def checked_rho(rho: float | str) -> float:
    """Read rho.

    Raises:
        ConfigError: If it is neither "auto" nor a number greater than 0.
    """
    if rho == "auto":
        return UNKNOWN_RHO
    if not isinstance(rho, int | float) or isinstance(rho, bool) or not 0 < rho < inf:
        raise ConfigError(f"rho must be a number greater than 0 or 'auto', got {rho!r}")
    return float(rho)


def chosen_rho(course: AdmmCourse, steps_per_epoch: int | None, momentum: Momentum | None) -> float:
    """Choose rho from the learning rates.

    Args:
        course: The ADMM phase.
        steps_per_epoch: Optimizer steps an epoch takes.
        momentum: Of the optimizer; None if it is Adam-like.

    Raises:
        ConfigError: If the steps are not known.
    """
    if steps_per_epoch is None:
        raise ConfigError("rho=auto needs to know the optimizer steps: give steps_per_epoch")
    return course.auto_rho(steps_per_epoch, momentum)


def chosen_w_step(w_step: str | None, optimizer: Optimizer) -> str:
    """Choose a form of the W-step that suits an optimizer.

    Args:
        w_step: As asked for; None for "reduced".
        optimizer: Optimizer of the ADMM phase.

    Raises:
        ConfigError: If there is no such form, or it does not suit the optimizer.
    """
    if w_step is None:
        return "reduced"
    require("w_step", w_step, w_step in W_STEPS, f"one of {', '.join(W_STEPS)}")
    kind = type(optimizer).__name__
    if w_step == "gradient" and follows_gradients(optimizer) is False:
        raise ConfigError(
            f"w_step='gradient' pulls through the gradients, which {kind} rescales, so that rho "
            f"would do nothing: take w_step='proximal' or 'reduced'"
        )
    if w_step == "folded" and not isinstance(optimizer, SGD):
        raise ConfigError(
            f"w_step='folded' needs torch.optim.SGD, whose weight decay is a gradient, got {kind}: "
            f"take w_step='proximal' or 'reduced'"
        )
    return w_step


def checked_lr(lr: float) -> float:
    """Read the learning rate of the ADMM phase.

    Raises:
        ConfigError: If it is not greater than 0 and finite.
    """
    require("admm_lr", lr, lr > 0, "greater than 0")
    require("admm_lr", lr, lr < inf, "finite")
    return lr


def checked_settings(**settings: Any) -> AdmmSettings:
    """Read the settings of the ADMM phase.

    Raises:
        ConfigError: If one is out of its range.
    """
    try:
        return AdmmSettings(**settings)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_finetuning(epochs: int, lr: float, decay: str, warmup: float) -> None:
    """Check the settings of finetuning.

    Raises:
        ConfigError: If a number is out of range or the decay is unknown.
    """
    require("finetune_epochs", epochs, epochs >= 0, "at least 0")
    require("finetune_warmup", warmup, 0.0 <= warmup < 1.0, "in [0, 1)")
    require("finetune_lr", lr, lr > 0, "greater than 0")
    require("finetune_lr", lr, lr < inf, "finite")
    try:
        training_lrs(decay, lr, epochs, warmup=warmup, per="step")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def require_learned(metric: Metric) -> None:
    """Refuse a metric that needs gradients and has seen none.

    Raises:
        ConfigError: With what shows them to it.
    """
    if isinstance(metric, GradientMetric) and not metric.gradients:
        raise ConfigError(
            f"metric {type(metric).__name__} scores by gradients that it has not seen: "
            f"call prune(), or its learn() with the mean absolute gradients of every group"
        )
