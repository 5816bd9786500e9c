"""One experiment: dense network, ADMM, cut, finetuning, report."""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from admm_exp.admm.rho import auto_rho
from admm_exp.config import ExperimentConfig, TrainingSettings, dataset_settings, digest
from admm_exp.data.dataset import Dataset
from admm_exp.environment import source_digest
from admm_exp.errors import ModelError
from admm_exp.handover import deliver, log_settings, origin
from admm_exp.materials import Materials
from admm_exp.phases.admm import check_stability, train_admm
from admm_exp.phases.dense import dense_network
from admm_exp.phases.parts import Observer, Observers, Parts
from admm_exp.phases.plain import train_plain
from admm_exp.phases.prune import prune
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost import count_cost, measure_latency_ms
from admm_exp.pruning.layers_file import read_layers, write_layers
from admm_exp.report import build_report
from admm_exp.results import History, PhaseResult
from admm_exp.tracking.curves import Curves
from admm_exp.training.layout import suited_layout
from admm_exp.training.learning_rate import admm_lrs
from admm_exp.training.loop import evaluate, train_epoch
from admm_exp.training.optimizer import build_optimizer
from admm_exp.training.seeding import seed_everything

LATENCY_BATCHES = (1, 32)
LATENCY_SECONDS = 0.2


def run_experiment(
    config: ExperimentConfig, materials: Materials, run_dir: Path, cache_dir: Path
) -> dict[str, Any]:
    """Run all phases and write everything a run leaves behind.

    Args:
        config: The settings.
        materials: Data, network, metric, tracker.
        run_dir: Folder of the run.
        cache_dir: Folder of dense networks shared by runs.

    Returns:
        The report.
    """
    history = History()
    observer = Observers((history, Curves(materials.tracker), *materials.observers))
    parts = _parts(config, materials, observer)
    dataset = materials.dataset

    lrs = _admm_lrs(config)
    rho = _rho(config, sum(lrs) * len(dataset.train))
    log_settings(config, materials, rho)
    dense = _dense(config, materials, parts, cache_dir)
    constrained = _admm(
        config, materials, parts, copy.deepcopy(dense), lrs=lrs, rho=rho, run_dir=run_dir
    )
    cut = prune(constrained, next(iter(dataset.val))[0], observer)
    small = cut.model.to(memory_format=suited_layout(cut.model, materials.device))
    pruned = _measured(small, dataset)
    _finetune(config, small, parts)

    models = {
        "dense": _measured(dense, dataset),
        "pruned": pruned,
        "finetuned": _measured(small, dataset),
    }
    _add_latency(models, dense, small, materials.example_input())
    admm = {"rho": rho, "rho_setting": config.rho, **_accuracies(constrained.model, dataset)}
    report = origin(config, materials) | build_report(
        models, admm, cut, constrained.prunable.kept, history
    )
    deliver(report, materials, dense, small, run_dir)
    return report


def check_plan(config: ExperimentConfig, materials: Materials) -> None:
    """Check, before anything is trained, that the network can be pruned as asked.

    The untrained network is masked and cut on random inputs, so that what cannot be cut is known
    before ADMM has spent its epochs.

    Raises:
        ModelError: If nothing can be pruned or the network does not fit the data.
        ConfigError: If the layers file does not fit the network, or rho is too large for the step.
        SurgeryError: If masked and cut network differ.
    """
    schedule, dataset = config.schedule, materials.dataset
    lrs = _admm_lrs(config)
    if schedule.optimizer.name == "sgd":
        check_stability(
            lrs,
            schedule.admm_iterations,
            _rho(config, sum(lrs) * len(dataset.train)),
            schedule.rho_growth,
            schedule.optimizer.momentum,
        )
    seed_everything(config.seed)
    model = materials.build_model()
    default, by_layer = _sparsities(config)
    inputs = torch.randn(2, *dataset.shape)
    constrained = ConstrainedModel(
        model, inputs[:1], sparsity=default, metric=materials.metric, rho=1.0, by_layer=by_layer
    )
    small, _ = constrained.cut(inputs)
    with torch.no_grad():
        logits = small.eval()(inputs)
    expected = (2, dataset.num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != expected:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"the model must return class scores of shape {expected} for 2 images of {dataset.name}"
            f", got {got}"
        )


def _parts(config: ExperimentConfig, materials: Materials, observer: Observer) -> Parts:
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


def _dense(
    config: ExperimentConfig, materials: Materials, parts: Parts, cache_dir: Path
) -> nn.Module:
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
        model, cache_dir / key, parts, lambda watched: _train(model, "dense", settings, watched, 0)
    )
    return model


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


def _admm_lrs(config: ExperimentConfig) -> list[float]:
    schedule = config.schedule
    return admm_lrs(
        schedule.admm_decay, schedule.admm_lr, schedule.admm_iterations, schedule.admm_epoch
    )


def _admm(
    config: ExperimentConfig,
    materials: Materials,
    parts: Parts,
    model: nn.Module,
    *,
    lrs: Sequence[float],
    rho: float,
    run_dir: Path,
) -> ConstrainedModel:
    seed_everything(config.seed)
    default, by_layer = _sparsities(config)
    constrained = ConstrainedModel(
        model,
        materials.example_input(),
        sparsity=default,
        metric=materials.metric,
        rho=rho,
        by_layer=by_layer,
    )
    write_layers(
        run_dir / "layers.yaml",
        constrained.groups,
        constrained.sparsities,
        default,
        constrained.prunable.kept,
    )
    train_admm(
        constrained,
        lrs,
        parts,
        admm_iterations=config.schedule.admm_iterations,
        rho_growth=config.schedule.rho_growth,
        relaxation=config.schedule.relaxation,
        offset=config.schedule.dense.epochs,
    )
    return constrained


def _rho(config: ExperimentConfig, sum_lr: float) -> float:
    if config.rho == "auto":
        optimizer = config.schedule.optimizer
        return auto_rho(sum_lr, optimizer.momentum if optimizer.name == "sgd" else 0.0)
    return float(config.rho)


def _sparsities(config: ExperimentConfig) -> tuple[float, dict[str, float]]:
    if config.layers is None:
        return config.sparsity, {}
    return read_layers(config.layers, config.sparsity)


def _finetune(config: ExperimentConfig, small: nn.Module, parts: Parts) -> None:
    schedule = config.schedule
    seed_everything(config.seed)
    offset = schedule.dense.epochs + schedule.admm_iterations * schedule.admm_epoch
    _train(small, "finetune", schedule.finetune, parts, offset)


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


def _add_latency(
    models: dict[str, dict[str, Any]], dense: nn.Module, small: nn.Module, sample: torch.Tensor
) -> None:
    """Latency belongs to an architecture: the cut and the finetuned network share it."""
    latency_ms = measure_latency_ms(
        {"dense": dense, "small": small}, sample, LATENCY_BATCHES, LATENCY_SECONDS
    )
    for name, column in models.items():
        column["latency_ms"] = latency_ms["dense" if name == "dense" else "small"]
