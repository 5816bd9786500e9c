"""The functions that all phases of a run train, validate and optimize with."""

from collections.abc import Iterable
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from torch import nn

from admm_exp.admm.rho import Momentum
from admm_exp.admm.rho_policy import RhoPolicy
from admm_exp.config.settings import (
    DistillationSettings,
    ExperimentConfig,
    OptimizerName,
    OptimizerSettings,
    TrainingSettings,
)
from admm_exp.data.dataset import Dataset
from admm_exp.experiment.components import Components
from admm_exp.methods.method import LastTraining, Method, Training
from admm_exp.phases.admm_course import AdmmCourse, admm_course_of
from admm_exp.phases.checkpoints import Checkpoints
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.distillation import Distillation
from admm_exp.training.gradient_average import average_gradients
from admm_exp.training.loop import LossFn, TrainFn, cross_entropy, evaluate, train_epoch
from admm_exp.training.optimizer import build_optimizer, clip_gradients
from admm_exp.training.precision import Stepping

CALIBRATION_BATCHES = 4
"""At most, in every ADMM iteration, to see what a cut would cost."""


def functions_of(
    config: ExperimentConfig, components: Components, checkpoints: Checkpoints
) -> TrainingFunctions:
    """Build the functions that all phases train, validate and optimize with.

    Args:
        config: The settings.
        components: Data set and the user's functions.
        checkpoints: Keeps what the phases do, and tells who watches.
    """
    dataset, settings = components.dataset, config.schedule.optimizer
    n_batches = min(CALIBRATION_BATCHES, config.schedule.recalibration_batches)
    stepping = stepping_of(config)

    def recalibrate(model: nn.Module) -> None:
        dataset.set_epoch(0)  # the same batches, whatever this process has trained on before
        recalibrate_(model, dataset.pairs(n_batches), stepping)

    def validate(model: nn.Module) -> Any:
        if components.has_own_score:
            return components.evaluate_fn(model, dataset.val)
        return evaluate(model, dataset.val, stepping)

    def optimizer_fn(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        optimizer = build_optimizer(
            settings.name,
            parameters,
            lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        )
        return clip_gradients(average_gradients(optimizer), config.schedule.clip_norm)

    return TrainingFunctions(
        train_fn=_own_train_fn(components) or _train_fn(dataset, cross_entropy, stepping),
        validate_fn=validate,
        optimizer_fn=optimizer_fn,
        observer=checkpoints,
        progress=checkpoints,
        recalibrate_fn=recalibrate if n_batches else None,
        steps_per_epoch=steps_per_epoch(config, dataset),
    )


def stepping_of(config: ExperimentConfig) -> Stepping:
    """Read how a training step computes."""
    trainer = config.trainer
    return Stepping(trainer.precision, trainer.compile_mode, config.schedule.accumulation)


def steps_per_epoch(config: ExperimentConfig, dataset: Dataset) -> int:
    """Count the optimizer steps of an epoch of the package's own training."""
    return ceil(len(dataset.train) / config.schedule.accumulation)


def taught(
    functions: TrainingFunctions,
    teacher: nn.Module,
    settings: DistillationSettings,
    dataset: Dataset,
    stepping: Stepping,
) -> TrainingFunctions:
    """Let the dense network teach, if it is asked to.

    Args:
        functions: The functions that train without a teacher.
        teacher: The dense network.
        settings: Its share of the loss, 0 for none.
        dataset: What is trained on.
        stepping: How a step computes.
    """
    if settings.weight == 0.0:
        return functions
    loss_fn = Distillation(teacher, settings.weight, settings.temperature)
    return replace(functions, train_fn=_train_fn(dataset, loss_fn, stepping))


def _train_fn(dataset: Dataset, loss_fn: LossFn, stepping: Stepping) -> TrainFn:
    def train_fn(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> float:
        dataset.set_epoch(epoch)
        return train_epoch(model, optimizer, dataset.train, loss_fn, stepping)

    return train_fn


def _own_train_fn(components: Components) -> TrainFn | None:
    own = components.train_fn
    if own is None:
        return None

    def train_fn(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> Any:
        components.dataset.set_epoch(epoch)
        return own(model, optimizer, epoch)

    return train_fn


def admm_course(config: ExperimentConfig, rho_policy: RhoPolicy) -> AdmmCourse:
    """Plan the epochs between the dense network and the cut."""
    settings, finetune = config.schedule.admm(), config.schedule.finetune
    shared = finetune.epochs if settings.is_joint_with(finetune.decay) else 0
    is_auto = config.rho == "auto"
    return admm_course_of(settings, rho_policy, is_auto=is_auto, finetune_epochs=shared)


def momentum_in(settings: OptimizerSettings) -> Momentum | None:
    """Read the momentum of the optimizer; None for Adam-like ones."""
    if settings.name != OptimizerName.sgd:
        return None
    return Momentum(settings.momentum, settings.nesterov)


def starting_rho(config: ExperimentConfig, course: AdmmCourse, steps_per_epoch: int) -> float:
    """Read rho, or choose it from the learning rates of the ADMM phase."""
    if config.rho == "auto":
        return course.auto_rho(steps_per_epoch, momentum_in(config.schedule.optimizer))
    return float(config.rho)


def last_training(config: ExperimentConfig, method: Method, course: AdmmCourse) -> LastTraining:
    """Ask a method how the small network is trained."""
    dense, finetune = config.schedule.dense, config.schedule.finetune
    return method.last_training(_training(dense), course, _training(finetune))


def _training(settings: TrainingSettings) -> Training:
    return Training(settings.epochs, settings.lr, settings.decay, settings.warmup)
