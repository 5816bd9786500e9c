"""The stages of an experiment, in order: each takes what it needs of those before, by name.

Each seeds the random generators anew where it draws from them, so that a stage needs what it is
given and nothing else.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from admm_exp.config.hashes import digest
from admm_exp.config.settings import ExperimentConfig, TrainingSettings
from admm_exp.experiment.allocation import (
    choice_file,
    constrain,
    curves_file,
    latency_budget,
    sensitivity_curves,
    settle_layers,
    settled_choice,
)
from admm_exp.experiment.artifacts import Dense, Folders, Small, Sparse
from admm_exp.experiment.components import Components
from admm_exp.experiment.functions import last_training, stepping_of, taught
from admm_exp.experiment.identity import dense_key
from admm_exp.experiment.measure import accuracies, measured
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.dense import dense_network
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.gradients import learn_gradients
from admm_exp.phases.prune import prune
from admm_exp.phases.train import train_plain
from admm_exp.pruning.budget.budget import Counts
from admm_exp.pruning.budget.latency_budget import LatencyChoice
from admm_exp.pruning.budget.layers_file import layers_text, unit_layers_text
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.budget.sensitivity import Curve
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.surgery.sparsities import LayerSettings
from admm_exp.results import LAYERS, PhaseResult, write_atomically
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.distribution import is_first
from admm_exp.training.memory_format import laid_out
from admm_exp.training.pretrained import load_pretrained
from admm_exp.training.seeding import seed_everything

FRESH_SEED = 1_000_003


def make_dense(
    config: ExperimentConfig,
    components: Components,
    functions: TrainingFunctions,
    folders: Folders,
    *,
    begun_with: Mapping[str, str],
) -> Dense:
    """Train the dense network, or take it from a file, the cache or the run before.

    Args:
        config: The settings.
        components: Data, network, method.
        functions: The user's functions and the observer.
        folders: Of the run, and of dense networks shared by runs.
        begun_with: What has changed since an earlier process began with this run; a network that
            both trained is shared with no other run.
    """
    seed_everything(config.seed)
    model = laid_out(components.build_model().to(components.device), components.device)
    key = None
    if components.previous:
        functions.observer.phase_started("dense", 0)
        functions.observer.phase_finished(PhaseResult("dense", 0.0, 0, cached=True))
    else:
        key = _train_or_reuse(model, config, components, functions, folders, begun_with=begun_with)
    return Dense(model, key, measured(model, components))


def make_sparse(
    config: ExperimentConfig,
    components: Components,
    functions: TrainingFunctions,
    folders: Folders,
    *,
    dense: Dense,
    course: AdmmCourse,
    rho: float,
) -> Sparse:
    """Make a copy of the dense network sparse, by the method."""
    seed_everything(config.seed)
    model = copy.deepcopy(dense.network)
    layers, curves, latency = _settle(config, components, functions, folders, dense)
    constrained = constrain(config, components, model, layers)
    if is_first():
        text = _layers_text(config, components.planner, constrained, layers)
        write_atomically(folders.run_dir / LAYERS, text.encode())
    teaching = taught(
        functions,
        dense.network,
        config.schedule.admm_distillation,
        components.dataset,
        stepping_of(config),
    )
    offset = config.schedule.dense.epochs
    learn_gradients(constrained, functions, offset)
    stopped = components.method.sparsify(constrained, course, teaching, rho=rho, offset=offset)
    before_cut = accuracies(constrained.model, components)
    if stopped is not None:
        before_cut["stopped"] = asdict(stopped)
    return Sparse(constrained, before_cut, curves, latency)


def make_small(
    config: ExperimentConfig,
    components: Components,
    functions: TrainingFunctions,
    constrained: ConstrainedModel,
    course: AdmmCourse,
) -> Small:
    """Remove the channels and measure what is left before any finetuning."""
    dataset, method, device = components.dataset, components.method, components.device
    cut = prune(constrained, dataset.inputs_of(next(iter(dataset.val))), functions.observer)
    network = laid_out(cut.model, device)
    columns = {"pruned": measured(network, components)}
    if method.starts_fresh:
        fresh = laid_out(_fresh(config, components, constrained), device)
        return Small(fresh, cut, True, columns)
    if n_batches := config.schedule.recalibration_batches:
        dataset.set_epoch(last_training(config, method, course).offset)
        recalibrate_(network, dataset.pairs(n_batches))
        columns["recalibrated"] = columns["pruned"] | accuracies(network, components)
    return Small(network, cut, False, columns)


def finetune(
    config: ExperimentConfig,
    components: Components,
    functions: TrainingFunctions,
    *,
    course: AdmmCourse,
    teacher: nn.Module,
    constrained: ConstrainedModel,
    small: Small,
) -> dict[str, Any]:
    """Train the small network in place; return its accuracies and cost."""
    seed_everything(config.seed)
    last, removal = last_training(config, components.method, course), constrained.removal()
    teaching = taught(
        functions,
        teacher,
        config.schedule.finetune.distillation,
        components.dataset,
        stepping_of(config),
    )
    train_plain(
        small.network,
        last.phase,
        teaching,
        epochs=last.training.epochs,
        lr=last.training.lr,
        decay=last.training.decay,
        warmup=last.training.warmup,
        lr_per=config.schedule.lr_per,
        offset=last.offset,
        before=last.training.before,
        around_epoch=lambda optimizer, _: removal.finished_training(optimizer, small.network),
    )
    return measured(small.network, components)


def _settle(
    config: ExperimentConfig,
    components: Components,
    functions: TrainingFunctions,
    folders: Folders,
    dense: Dense,
) -> tuple[LayerSettings, tuple[Curve, ...], LatencyChoice | None]:
    """Settle what becomes of every layer, with what was measured for it."""
    planner, metric = components.planner, components.metric
    folder = folders.cache_dir / dense.key if dense.key else folders.run_dir
    found: tuple[Curve, ...] = ()
    latency: LatencyChoice | None = None

    def curves(planner: Planner) -> tuple[Curve, ...]:
        nonlocal found
        path = folder / curves_file(config, planner)
        found = sensitivity_curves(functions, path, planner, dense.network, metric)
        return found

    def by_latency(counts: Counts) -> Mapping[str, float]:
        nonlocal latency
        budget = latency_budget(config, components)
        assert budget is not None
        assert planner is not None
        path = folder / choice_file(config, components.device, planner)
        latency = settled_choice(
            budget, functions, path, planner, lambda: budget.choose(dense.network, planner, counts)
        )
        return latency.sparsities

    layers = settle_layers(
        config, planner, dense.network, metric, curves=curves, by_latency=by_latency
    )
    return layers, found, latency


def _layers_text(
    config: ExperimentConfig,
    planner: Planner | None,
    constrained: ConstrainedModel,
    layers: LayerSettings,
) -> str:
    if planner is not None:
        return layers_text(planner.plan(layers, config.channel_multiple), layers)
    unit = constrained.granularity.unit
    return unit_layers_text(constrained.prunable, constrained.sparsities, layers, unit)


def _train_or_reuse(
    model: nn.Module,
    config: ExperimentConfig,
    components: Components,
    functions: TrainingFunctions,
    folders: Folders,
    *,
    begun_with: Mapping[str, str],
) -> str:
    """Fill the dense network; return what names all that it depends on."""
    settings = config.schedule.dense
    if config.pretrained is not None:
        load_pretrained(model, config.pretrained)
        settings = replace(settings, epochs=0)
    key = dense_key(config, components, model)
    if begun_with:
        key = digest([key, dict(begun_with)])
    dense_network(
        model,
        folders.cache_dir / key,
        functions,
        lambda watched: _train(model, settings, config.schedule.lr_per, watched),
    )
    return key


def _fresh(
    config: ExperimentConfig, components: Components, constrained: ConstrainedModel
) -> nn.Module:
    """Build the small architecture with random weights that the dense network never had.

    The cut chose channels by where the dense network's weights went from its seed. Weights of
    layers that lost inputs are scaled up, so that activations keep the size they start with.
    """
    seed_everything((config.seed + FRESH_SEED) % 2**32)
    wide = components.build_model().to(components.device)
    small = constrained.removal().shrink(wide)
    before = dict(wide.named_parameters())
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            if parameter.dim() > 1:
                n_inputs = int(parameter.count_nonzero()) / len(parameter)
                parameter.mul_((before[name][0].numel() / max(1.0, n_inputs)) ** 0.5)
    return small


def _train(
    model: nn.Module, settings: TrainingSettings, lr_per: str, functions: TrainingFunctions
) -> PhaseResult:
    return train_plain(
        model,
        "dense",
        functions,
        epochs=settings.epochs,
        lr=settings.lr,
        decay=settings.decay,
        warmup=settings.warmup,
        lr_per=lr_per,
        offset=0,
    )
