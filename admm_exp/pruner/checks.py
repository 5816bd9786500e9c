"""What ADMMPruner accepts."""

from collections.abc import Mapping
from math import inf
from typing import Any

from torch.optim import SGD, Optimizer

from admm_exp.admm.metrics import GradientMetric, Metric
from admm_exp.admm.rho import Momentum
from admm_exp.admm.rho_policy import Constant, RhoPolicy
from admm_exp.admm.settings import AdmmSettings
from admm_exp.errors import ConfigError, require
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.training.learning_rate import training_lrs
from admm_exp.training.step_length import follows_gradients

PRUNE_ONLY = (
    "dual_step",
    "sparsity_ramp",
    "masked_share",
    "stopping",
    "stable_iterations",
    "freeze_support",
)
"""Settings that a training loop of one's own has no use for."""
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


def default_and_layers(
    sparsity: float | Mapping[str, float],
) -> tuple[float, dict[str, float]]:
    """Part a sparsity into that of most layers and those of named ones."""
    if isinstance(sparsity, int | float):
        return float(sparsity), {}
    by_layer = dict(sparsity)
    return by_layer.pop("default", 0.0), by_layer


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


def fitting_w_step(w_step: str, optimizer: Optimizer) -> str:
    """Return a form of the W-step if it suits an optimizer.

    Args:
        w_step: The form.
        optimizer: Optimizer of the ADMM phase.

    Raises:
        ConfigError: If the form does nothing with this optimizer.
    """
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


def changed_settings(settings: AdmmSettings, **changes: Any) -> AdmmSettings:
    """Replace some settings of the ADMM phase.

    Raises:
        ConfigError: If one is out of its range.
    """
    return checked_settings(**(vars(settings) | changes))


def check_own_loop(settings: AdmmSettings, rho_policy: RhoPolicy) -> None:
    """Refuse what a training loop of one's own would not obey.

    Raises:
        ConfigError: With the first such setting.
    """
    given = {name: getattr(settings, name) for name in PRUNE_ONLY}
    others = [name for name in PRUNE_ONLY if given[name] != getattr(AdmmSettings, name)]
    if type(rho_policy) is not Constant:
        others.append("rho_policy")
    if others:
        raise ConfigError(
            f"{others[0]} is obeyed by prune() alone: leave it out for a loop of your own, and "
            f"decide there when rho changes and when ADMM ends"
        )


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
