"""The stages of an experiment, in order; each reads what earlier ones made and adds its own."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import islice

import torch
from torch import nn

from admm_exp.config.settings import TrainingSettings
from admm_exp.experiment.allocation import (
    choice_file,
    constrain,
    curves_file,
    latency_budget,
    sensitivity_curves,
    settle_layers,
    settled_choice,
)
from admm_exp.experiment.artifacts import Artifacts, Run
from admm_exp.experiment.functions import taught
from admm_exp.experiment.identity import dense_key
from admm_exp.experiment.measure import accuracies, measured
from admm_exp.methods.method import Task
from admm_exp.phases.dense import dense_network
from admm_exp.phases.gradients import learn_gradients
from admm_exp.phases.parts import Parts
from admm_exp.phases.prune import prune
from admm_exp.phases.train import train_plain
from admm_exp.pruning.budget.budget import Counts
from admm_exp.pruning.budget.layers_file import layers_text, unit_layers_text
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.budget.sensitivity import Curve
from admm_exp.results import PhaseResult
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.checkpoint import write_atomically
from admm_exp.training.distribution import is_first
from admm_exp.training.memory_format import laid_out
from admm_exp.training.pretrained import load_pretrained
from admm_exp.training.seeding import seed_everything

FRESH_SEED = 1_000_003


def dense(made: Artifacts, run: Run) -> None:
    """Train the dense network, or take it from a file, the cache or the run before."""
    config, materials = run.config, run.materials
    seed_everything(config.seed)
    model = laid_out(materials.build_model().to(materials.device), materials.device)
    made.dense = model
    if materials.previous:
        made.models["original"] = materials.previous.original()
        run.parts.observer.phase_started("dense", 0)
        run.parts.observer.phase_finished(PhaseResult("dense", 0.0, 0, cached=True))
    else:
        made.dense_key = _train_or_reuse(model, run)
    made.models["dense"] = measured(model, materials)


def sparsify(made: Artifacts, run: Run) -> None:
    """Make a copy of the dense network sparse, by the method."""
    config, materials = run.config, run.materials
    seed_everything(config.seed)
    model = copy.deepcopy(made.dense)

    planner = materials.planner
    folder = run.cache_dir / made.dense_key if made.dense_key else run.run_dir

    def curves(planner: Planner) -> tuple[Curve, ...]:
        path = folder / curves_file(config, planner)
        made.curves = sensitivity_curves(run.parts, path, planner, made.dense, materials.metric)
        return made.curves

    def by_latency(counts: Counts) -> Mapping[str, float]:
        budget = latency_budget(config, materials)
        assert budget is not None
        assert planner is not None
        path = folder / choice_file(config, materials.device, planner)
        made.latency = settled_choice(
            budget, run.parts, path, planner, lambda: budget.choose(made.dense, planner, counts)
        )
        return made.latency.sparsities

    layers = settle_layers(
        config, planner, model, materials.metric, curves=curves, by_latency=by_latency
    )
    constrained = constrain(config, materials, model, layers)
    if is_first():
        text = (
            unit_layers_text(
                constrained.prunable, constrained.sparsities, layers, constrained.granularity.unit
            )
            if planner is None
            else layers_text(planner.plan(layers, config.channel_multiple), layers)
        )
        write_atomically(run.run_dir / "layers.yaml", text.encode())
    parts = taught(
        run.parts, made.dense, config.schedule.admm_distillation, materials.dataset, config.trainer
    )
    steps, offset = len(materials.dataset.train), config.schedule.dense.epochs
    task = Task(config, materials.rho_policy, parts, steps, offset)
    learn_gradients(constrained, run.parts, offset)
    stopped = materials.method.sparsify(constrained, task)
    made.constrained = constrained
    made.before_cut = accuracies(constrained.model, materials)
    if stopped is not None:
        made.before_cut["stopped"] = asdict(stopped)


def cut(made: Artifacts, run: Run) -> None:
    """Remove the channels and measure what is left before any finetuning."""
    dataset, n_batches = run.materials.dataset, run.config.schedule.recalibration_batches
    made.cut = prune(made.constrained, next(iter(dataset.val))[0], run.parts.observer)
    cut_network = laid_out(made.cut.model, run.materials.device)
    made.models["pruned"] = measured(cut_network, run.materials)
    started = run.materials.method.start(cut_network, lambda: _fresh(made, run))
    made.small = laid_out(started, run.materials.device)
    if n_batches and made.small is cut_network:
        dataset.set_epoch(run.materials.method.last_training(run.config.schedule).offset)
        recalibrate_(made.small, islice(dataset.train, n_batches))
        made.models["recalibrated"] = made.models["pruned"] | accuracies(made.small, run.materials)


def finetune(made: Artifacts, run: Run) -> None:
    """Train the small network."""
    seed_everything(run.config.seed)
    last = run.materials.method.last_training(run.config.schedule)
    parts = taught(
        run.parts, made.dense, last.settings.distillation, run.materials.dataset, run.config.trainer
    )
    train_plain(
        made.small,
        last.phase,
        parts,
        epochs=last.settings.epochs,
        lr=last.settings.lr,
        decay=last.settings.decay,
        warmup=last.settings.warmup,
        lr_per=run.config.schedule.lr_per,
        offset=last.offset,
        around_epoch=lambda optimizer, _: made.constrained.finished_training(optimizer, made.small),
    )
    made.models["finetuned"] = measured(made.small, run.materials)


STAGES = (dense, sparsify, cut, finetune)
"""In order. Each seeds the random generators anew where it draws from them, so that a stage needs
the artifacts of those before it and nothing else."""


def _train_or_reuse(model: nn.Module, run: Run) -> str:
    """Fill the dense network; return what names all that it depends on."""
    config, materials = run.config, run.materials
    settings = config.schedule.dense
    if config.pretrained is not None:
        load_pretrained(model, config.pretrained)
        settings = replace(settings, epochs=0)
    key = dense_key(config, materials, model)
    dense_network(
        model,
        run.cache_dir / key,
        run.parts,
        lambda watched: _train(model, settings, config.schedule.lr_per, watched),
    )
    return key


def _fresh(made: Artifacts, run: Run) -> nn.Module:
    """Build the small architecture with random weights that the dense network never had.

    The cut chose channels by where the dense network's weights went from its seed. Weights of
    layers that lost inputs are scaled up, so that activations keep the size they start with.
    """
    materials = run.materials
    seed_everything((run.config.seed + FRESH_SEED) % 2**32)
    wide = materials.build_model().to(materials.device)
    small = made.constrained.shrink(wide)
    before = dict(wide.named_parameters())
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            if parameter.dim() > 1:
                n_inputs = int(parameter.count_nonzero()) / len(parameter)
                parameter.mul_((before[name][0].numel() / max(1.0, n_inputs)) ** 0.5)
    return small


def _train(model: nn.Module, settings: TrainingSettings, lr_per: str, parts: Parts) -> PhaseResult:
    return train_plain(
        model,
        "dense",
        parts,
        epochs=settings.epochs,
        lr=settings.lr,
        decay=settings.decay,
        warmup=settings.warmup,
        lr_per=lr_per,
        offset=0,
    )
