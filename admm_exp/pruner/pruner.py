"""ADMM pruning as a library: for your own network, loaders, loss and train function."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from admm_exp.admm.convergence import Residuals
from admm_exp.admm.metrics import L2Norm, Metric
from admm_exp.admm.partition import Partition
from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.rho_policy import Constant, RhoPolicy
from admm_exp.admm.settings import AdmmSettings
from admm_exp.admm.state import State
from admm_exp.errors import ConfigError, require
from admm_exp.phases.admm import train_admm
from admm_exp.phases.admm_course import admm_course_of
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.gradients import learn_gradients
from admm_exp.phases.observers import Observer
from admm_exp.phases.prune import Cut, prune
from admm_exp.phases.train import train_plain
from admm_exp.pruner.checks import (
    changed_settings,
    check_finetuning,
    check_own_loop,
    checked_lr,
    checked_rho,
    checked_settings,
    chosen_rho,
    default_and_layers,
    fitting_w_step,
    require_learned,
)
from admm_exp.pruner.own_loop import OwnLoop
from admm_exp.pruner.result import PruningResult
from admm_exp.pruner.watching import watching
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.penalty import StepCount
from admm_exp.results import History, Stopped
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.loop import Batch, TrainFn, ValidateFn, as_evaluation
from admm_exp.training.optimizer import momentum_of


class ADMMPruner:
    """Prune a trained network with ADMM: its channels, or what else the granularity says.

    `prune` runs everything; `penalty`, `update` and `finalize` leave the training loop to you.

    Args:
        model: The trained network; ADMM trains it in place, the small network is a copy.
        example_input: What the network takes, on its device: a tensor, a tuple or dict of
            arguments, or anything else; real samples make the check of the cut meaningful.
        train_fn: (model, optimizer, epoch) -> loss or None; trains an epoch. For `prune` only.
        validate_fn: (model) -> accuracy in [0, 1]. For `prune` only.
        optimizer_fn: (parameters, lr) -> optimizer; SGD with momentum 0.9 if None.
        sparsity: Fraction of units that a group loses, in [0, 1); or one by layer and `default`.
        rho: Penalty parameter > 0, or "auto": leaves 1 % of an unheld weight, in `prune` only.
        metric: Score of the units, an object of `admm_exp.admm.metrics`; L2Norm if None. `Taylor`
            reads gradients, which `prune` shows to it.
        granularity: What the units are, an object of `admm_exp.admm.partitions`; whole channels
            if None. Finer units stay in the network as zeros, which finetuning holds.
        exclude: Layers to keep whole: names, wildcards or types, as `Linear`.
        channel_multiple: The kept channels of a group are rounded to a multiple of this.
        keep_streams: Keep widths whole that a norm across channels counts.
        w_step: How W is pulled towards Z - U: "gradient", "folded" (by the weight decay of SGD),
            "proximal" (after the step) or "reduced" (the units to be removed alone).
        relaxation: Over-relaxation in (0, 2); 1 is none.
        rho_policy: Chooses rho of every iteration; Constant if None. From here on `prune` alone.
        dual_step: "full" or "reached", see `admm.settings.DualStep`.
        sparsity_ramp: Fraction of the iterations over which the sparsity rises.
        masked_share: Last part of the iterations in which units to be removed stay at zero.
        stopping: What ends ADMM training: "budget", "residuals" or "support".
        stable_iterations: Iterations without a change that make a support stable.
        freeze_support: Whether a stable support is kept from then on.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
        ConfigError: If a number is out of range, or a layer name or a word is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Any,
        *,
        train_fn: TrainFn | None = None,
        validate_fn: ValidateFn | None = None,
        optimizer_fn: Callable[[Iterable[nn.Parameter], float], Optimizer] | None = None,
        sparsity: float | Mapping[str, float],
        rho: float | str = "auto",
        metric: Metric | None = None,
        granularity: Channel | Partition | None = None,
        exclude: Sequence[str] = (),
        channel_multiple: int = 1,
        keep_streams: bool = False,
        w_step: str = AdmmSettings.w_step,
        relaxation: float = AdmmSettings.relaxation,
        rho_policy: RhoPolicy | None = None,
        dual_step: str = AdmmSettings.dual_step,
        sparsity_ramp: float = AdmmSettings.sparsity_ramp,
        masked_share: float = AdmmSettings.masked_share,
        stopping: str = AdmmSettings.stopping,
        stable_iterations: int = AdmmSettings.stable_iterations,
        freeze_support: bool = AdmmSettings.freeze_support,
    ) -> None:
        words = {"w_step": w_step, "dual_step": dual_step, "stopping": stopping}
        shares = {"sparsity_ramp": sparsity_ramp, "masked_share": masked_share}
        counts = {"stable_iterations": stable_iterations, "freeze_support": freeze_support}
        numbers = shares | counts | {"relaxation": relaxation, "admm_iterations": 1}
        self._settings = checked_settings(**words, **numbers)
        self._rho_policy = rho_policy or Constant()
        require("channel_multiple", channel_multiple, channel_multiple >= 1, "at least 1")
        self._train_fn = train_fn
        self._validate_fn = validate_fn
        self._optimizer_fn = optimizer_fn or partial(torch.optim.SGD, momentum=0.9)
        self._is_auto = rho == "auto"
        default, by_layer = default_and_layers(sparsity)
        self._constrained = ConstrainedModel(
            model,
            example_input,
            sparsity=default,
            metric=metric or L2Norm(),
            rho=checked_rho(rho),
            by_layer=by_layer,
            granularity=granularity,
            exclude=exclude,
            channel_multiple=channel_multiple,
            keep_streams=keep_streams,
        )
        self._loop = OwnLoop(self._constrained)

    @property
    def state(self) -> State:
        """T = Z - U, support and rho."""
        return self._constrained.state

    def penalty(self, optimizer: Optimizer) -> AbstractContextManager[StepCount]:
        """Pull W towards Z - U at every step of the optimizer, inside the `with` block.

        Args:
            optimizer: Optimizer of all parameters of the model.

        Raises:
            ConfigError: If rho, the metric or a setting needs `prune`, or the form of the W-step
                does not suit the optimizer.
            TrainingError: On leaving the block, if the optimizer was never stepped.
        """
        if self._is_auto:
            raise ConfigError(
                "rho=auto needs the learning rates of the whole ADMM phase: "
                "give ADMMPruner a number, for example from admm_exp.admm.rho.auto_rho"
            )
        check_own_loop(self._settings, self._rho_policy)
        require_learned(self._constrained.constraint.metric)
        return self._loop.pulling(optimizer, fitting_w_step(self._settings.w_step, optimizer))

    def update(self) -> Residuals:
        """Do the Z- and U-step of one ADMM iteration; warn once if the support flips."""
        return self._loop.update(self._settings.relaxation)

    def finished_training(
        self, optimizer: Optimizer, network: nn.Module
    ) -> AbstractContextManager[None]:
        """Hold what `finalize` masked at exactly zero after every step, inside the `with` block.

        Args:
            optimizer: Optimizer that trains the network.
            network: What `finalize` returned; after a cut nothing needs to be held.
        """
        return self._constrained.removal().finished_training(optimizer, network)

    def finalize(self) -> nn.Module:
        """Remove the units outside the support of Z; the model itself stays as it is.

        Raises:
            SurgeryError: If masked and cut network differ by more than 1e-3.
        """
        return self._cut(History()).model

    def prune(
        self,
        admm_iterations: int,
        admm_epoch: int,
        admm_lr: float = AdmmSettings.admm_lr,
        *,
        admm_decay: str = AdmmSettings.admm_decay,
        admm_warmup: float = AdmmSettings.admm_warmup,
        lr_per: str = AdmmSettings.lr_per,
        finetune_epochs: int = 0,
        finetune_lr: float = 0.01,
        finetune_decay: str = "cosine",
        finetune_warmup: float = 0.1,
        recalibrate_on: Iterable[Batch] | None = None,
        steps_per_epoch: int | None = None,
        observer: Observer | None = None,
        show_progress: bool = True,
    ) -> PruningResult:
        """Train with ADMM, cut, and finetune.

        Args:
            admm_iterations: Number of W/Z/U rounds.
            admm_epoch: Epochs between two updates of Z and U.
            admm_lr: Learning rate of ADMM training.
            admm_decay: "constant", "cosine", "joint" or "thirds", see `admm.settings.AdmmDecay`.
            admm_warmup: Fraction of ADMM training over which the learning rate rises, in [0, 1).
            lr_per: Learning rates follow every "step", or all steps of an "epoch" share one.
            finetune_epochs: Epochs after the cut.
            finetune_lr: Learning rate of finetuning.
            finetune_decay: "constant", "cosine" or "step".
            finetune_warmup: Fraction of finetuning over which the learning rate rises, in [0, 1).
            recalibrate_on: (inputs, labels) to estimate statistics of norm layers on after the cut.
            steps_per_epoch: Optimizer steps an epoch takes; rho="auto" needs it, and the learning
                rates of a first epoch.
            observer: Sees epochs, iterations and phases as they happen.
            show_progress: Whether a bar moves on a terminal, and a line a phase is left elsewhere.

        Raises:
            ConfigError: If a function is missing or a number is out of range.
            TrainingError: If `train_fn` never steps the optimizer or a loss is not finite.
        """
        with watching(observer, steps_per_epoch, is_shown=show_progress) as (history, watchers):
            functions = self._functions(watchers, steps_per_epoch)
            check_finetuning(finetune_epochs, finetune_lr, finetune_decay, finetune_warmup)
            settings = changed_settings(
                self._settings,
                admm_iterations=admm_iterations,
                admm_epoch=admm_epoch,
                admm_lr=checked_lr(admm_lr),
                admm_decay=admm_decay,
                admm_warmup=admm_warmup,
                lr_per=lr_per,
            )
            is_joint = settings.is_joint_with(finetune_decay)
            stopped = self._train(settings, functions, finetune_epochs if is_joint else 0)
            before = as_evaluation(functions.validate_fn(self._constrained.model)).accuracy
            cut = self._cut(watchers)
            after = as_evaluation(functions.validate_fn(cut.model)).accuracy
            recalibrated = None
            if recalibrate_on is not None:
                recalibrate_(cut.model, recalibrate_on)
                recalibrated = as_evaluation(functions.validate_fn(cut.model)).accuracy
            train_plain(
                cut.model,
                "finetune",
                functions,
                epochs=finetune_epochs,
                lr=finetune_lr,
                decay=finetune_decay,
                warmup=admm_warmup if is_joint else finetune_warmup,
                before=settings.epochs if is_joint else 0,
                lr_per=lr_per,
                offset=settings.epochs,
                around_epoch=lambda optimizer, _: self.finished_training(optimizer, cut.model),
            )
        unfinetuned = after if recalibrated is None else recalibrated
        final = history.epochs[-1].val_accuracy if finetune_epochs else unfinetuned
        return PruningResult(
            cut.model,
            before,
            after,
            recalibrated,
            final,
            cut.max_abs_difference,
            cut.layers,
            tuple(history.iterations),
            stopped,
            tuple(history.epochs),
            tuple(history.phases),
        )

    def _train(self, settings: AdmmSettings, functions: TrainingFunctions, rest: int) -> Stopped:
        """Choose rho if that was left open, and train."""
        optimizer = self._optimizer_fn(self._constrained.model.parameters(), settings.admm_lr)
        fitting_w_step(settings.w_step, optimizer)
        policy, is_auto = self._rho_policy, self._is_auto
        course = admm_course_of(settings, policy, is_auto=is_auto, finetune_epochs=rest)
        momentum = momentum_of(optimizer)
        if course.is_auto:
            self._constrained.rho = chosen_rho(course, functions.steps_per_epoch, momentum)
        course.check_rho(self._constrained.rho, momentum)
        learn_gradients(self._constrained, functions)
        return train_admm(self._constrained, course, functions)

    def _cut(self, observer: Observer) -> Cut:
        return prune(self._constrained, self._constrained.example_input, observer)

    def _functions(self, observer: Observer, n_steps: int | None) -> TrainingFunctions:
        if self._train_fn is None or self._validate_fn is None:
            raise ConfigError("prune() needs train_fn and validate_fn: give them to ADMMPruner")
        if n_steps is not None:
            require("steps_per_epoch", n_steps, n_steps >= 1, "at least 1")
        return TrainingFunctions(
            self._train_fn, self._validate_fn, self._optimizer_fn, observer, steps_per_epoch=n_steps
        )
