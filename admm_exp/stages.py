"""The stages of an experiment, in order; each reads what earlier ones made and adds its own."""

import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from admm_exp.config import ExperimentConfig, TrainingSettings, dataset_settings, digest
from admm_exp.data.dataset import Dataset
from admm_exp.environment import source_digest
from admm_exp.materials import Materials
from admm_exp.phases.admm import train_admm
from admm_exp.phases.admm_plan import AdmmPlan
from admm_exp.phases.dense import dense_network
from admm_exp.phases.parts import Observer, Parts
from admm_exp.phases.plain import train_plain
from admm_exp.phases.prune import Cut, prune
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost import count_cost
from admm_exp.pruning.layers_file import read_layers, write_layers
from admm_exp.results import PhaseResult
from admm_exp.training.layout import suited_layout
from admm_exp.training.learning_rate import admm_lrs
from admm_exp.training.loop import evaluate, train_epoch
from admm_exp.training.optimizer import build_optimizer
from admm_exp.training.seeding import seed_everything


@dataclass(frozen=True)
class Run:
    """What all stages of a run work with.

    Args:
        config: The settings.
        materials: Data, network, metric, tracker.
        parts: Functions that train, validate and optimize, and the observer.
        run_dir: Folder of the run.
        cache_dir: Folder of dense networks shared by runs.
    """

    config: ExperimentConfig
    materials: Materials
    parts: Parts
    run_dir: Path
    cache_dir: Path


@dataclass
class Artifacts:
    """What the stages of a run have made so far; a field is set by the stage that makes it.

    Args:
        models: Accuracies and cost of dense, pruned and finetuned network.
        dense: The trained network (stage dense); no later stage changes it.
        dense_key: Names all that the dense network depends on (stage dense).
        constrained: The network ready to be cut, and its groups (stage sparsify).
        before_cut: Accuracies of that network, and what ended its training.
        cut: What the cut did (stage cut).
        small: The small network (stage cut), trained in place by stage finetune.
    """

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    dense: nn.Module = field(init=False)
    dense_key: str = field(init=False)
    constrained: ConstrainedModel = field(init=False)
    before_cut: dict[str, Any] = field(init=False)
    cut: Cut = field(init=False)
    small: nn.Module = field(init=False)


def dense(made: Artifacts, run: Run) -> None:
    """Train the dense network, or take it from the cache."""
    config, materials = run.config, run.materials
    seed_everything(config.seed)
    model = materials.build_model().to(materials.device)
    model = model.to(memory_format=suited_layout(model, materials.device))
    settings = config.schedule.dense
    key = digest(
        {
            "data": materials.dataset.fingerprint,
            "dataset": dataset_settings(config),
            "model": config.model,
            "code": source_digest(model),
            "torch": torch.__version__,
            "schedule": asdict(settings),
            "optimizer": asdict(config.schedule.optimizer),
            "batch_size": config.schedule.batch_size,
            "seed": config.seed,
            "device": materials.device.type,
        }
    )
    dense_network(
        model,
        run.cache_dir / key,
        run.parts,
        lambda watched: _train(model, "dense", settings, watched, 0),
    )
    made.dense, made.dense_key = model, key
    made.models["dense"] = _measured(model, materials.dataset)


def sparsify(made: Artifacts, run: Run) -> None:
    """Train with ADMM until the channels to be cut carry nothing."""
    config, materials = run.config, run.materials
    seed_everything(config.seed)
    default, by_layer = sparsities(config)
    constrained = ConstrainedModel(
        copy.deepcopy(made.dense),
        materials.example_input(),
        sparsity=default,
        metric=materials.metric,
        rho=starting_rho(config, materials),
        by_layer=by_layer,
    )
    write_layers(
        run.run_dir / "layers.yaml",
        constrained.groups,
        constrained.sparsities,
        default,
        constrained.prunable.kept,
    )
    plan = plan_of(config, materials)
    stopped = train_admm(constrained, plan, run.parts, offset=config.schedule.dense.epochs)
    made.constrained = constrained
    made.before_cut = _accuracies(constrained.model, materials.dataset)
    made.before_cut["stopped"] = asdict(stopped)


def cut(made: Artifacts, run: Run) -> None:
    """Remove the channels and measure what is left before any finetuning."""
    dataset = run.materials.dataset
    made.cut = prune(made.constrained, next(iter(dataset.val))[0], run.parts.observer)
    small = made.cut.model
    made.small = small.to(memory_format=suited_layout(small, run.materials.device))
    made.models["pruned"] = _measured(made.small, dataset)


def finetune(made: Artifacts, run: Run) -> None:
    """Train the small network."""
    schedule = run.config.schedule
    seed_everything(run.config.seed)
    offset = schedule.dense.epochs + schedule.admm_iterations * schedule.admm_epoch
    _train(made.small, "finetune", schedule.finetune, run.parts, offset)
    made.models["finetuned"] = _measured(made.small, run.materials.dataset)


STAGES = (dense, sparsify, cut, finetune)
"""In order. Each seeds the random generators anew where it draws from them, so that a stage needs
the artifacts of those before it and nothing else."""


def parts_of(config: ExperimentConfig, materials: Materials, observer: Observer) -> Parts:
    """Build the functions that all phases train, validate and optimize with."""
    dataset, settings = materials.dataset, config.schedule.optimizer

    def train_fn(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> float:
        dataset.set_epoch(epoch)
        return train_epoch(model, optimizer, dataset.train)

    return Parts(
        train_fn=train_fn,
        validate_fn=lambda model: evaluate(model, dataset.val),
        optimizer_fn=lambda parameters, lr: build_optimizer(
            settings.name,
            parameters,
            lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        ),
        observer=observer,
    )


def plan_of(config: ExperimentConfig, materials: Materials) -> AdmmPlan:
    """Read what the ADMM phase is asked to do."""
    schedule = config.schedule
    lrs = admm_lrs(
        schedule.admm_decay, schedule.admm_lr, schedule.admm_iterations, schedule.admm_epoch
    )
    return AdmmPlan(
        lrs,
        schedule.admm_iterations,
        materials.rho_policy,
        relaxation=schedule.relaxation,
        sparsity_ramp=schedule.sparsity_ramp,
        stopping=schedule.stopping,
        stable_iterations=schedule.stable_iterations,
        freeze_support=schedule.freeze_support,
        w_step=schedule.w_step,
    )


def momentum_of(config: ExperimentConfig) -> float | None:
    """Read the momentum of the optimizer; None for Adam-like ones."""
    optimizer = config.schedule.optimizer
    return optimizer.momentum if optimizer.name == "sgd" else None


def starting_rho(config: ExperimentConfig, materials: Materials) -> float:
    """Read rho, or choose it from the learning rates of the ADMM phase."""
    if config.rho == "auto":
        plan = plan_of(config, materials)
        return plan.auto_rho(len(materials.dataset.train), momentum_of(config) or 0.0)
    return float(config.rho)


def sparsities(config: ExperimentConfig) -> tuple[float, dict[str, float]]:
    """Read the default sparsity, and those of the layers file."""
    if config.layers is None:
        return config.sparsity, {}
    return read_layers(config.layers, config.sparsity)


def _train(
    model: nn.Module, phase: str, settings: TrainingSettings, parts: Parts, offset: int
) -> PhaseResult:
    return train_plain(
        model,
        phase,
        parts,
        epochs=settings.epochs,
        lr=settings.lr,
        decay=settings.decay,
        warmup_epochs=settings.warmup_epochs,
        offset=offset,
    )


def _accuracies(model: nn.Module, dataset: Dataset) -> dict[str, Any]:
    val, test = evaluate(model, dataset.val), evaluate(model, dataset.test)
    return {
        "val_accuracy": val.accuracy,
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
    }


def _measured(model: nn.Module, dataset: Dataset) -> dict[str, Any]:
    cost = count_cost(model, torch.zeros(1, *dataset.shape))
    return _accuracies(model, dataset) | asdict(cost)
