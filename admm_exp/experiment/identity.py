"""What a dense network and a run depend on, and what of it has changed since."""

import hashlib
import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from admm_exp.config.hashes import (
    config_hash,
    content_hash,
    dataset_settings,
    digest,
    step_settings,
)
from admm_exp.config.parts import FUNCTIONS, PARTS
from admm_exp.config.settings import ExperimentConfig
from admm_exp.experiment.components import Components
from admm_exp.experiment.environment import package_version
from admm_exp.experiment.own_code import own_code
from admm_exp.training.distribution import world_size

PACKAGES = ("admm-exp", "torch", "torchvision")
CODE_OF = "the code of "


def dense_key(config: ExperimentConfig, components: Components, model: nn.Module) -> str:
    """Hash what a dense network depends on.

    Args:
        config: The settings.
        components: Data and device.
        model: The network, untrained; its code counts, its weights follow from the seed.
    """
    own = own_code([config.model, config.dataset, config.train_fn, config.validate_fn])
    return digest(
        {
            "data": components.dataset.fingerprint,
            "dataset": dataset_settings(config),
            "model": config.model,
            "train_fn": config.train_fn and [config.train_fn, code_digest(components.train_fn)],
            "validate_fn": config.validate_fn
            and [config.validate_fn, code_digest(components.evaluate_fn)],  # of curves kept there
            "pretrained": content_hash(config.pretrained),
            "code": source_digest(model),
            "versions": {name: package_version(name) for name in PACKAGES},
            "schedule": asdict(config.schedule.dense),
            "lr_per": config.schedule.lr_per,
            "optimizer": asdict(config.schedule.optimizer),
            "batch_size": config.schedule.batch_size,
            "precision": config.trainer.precision,
            "compile": config.trainer.compile,
            "seed": config.seed,
            "device": components.device.type,
            "processes": world_size(),
        }
        | step_settings(config)
        | ({"own_code": own} if own else {})
    )


def run_code(config: ExperimentConfig) -> dict[str, str]:
    """Name the code of the user's that a run depends on: files by hash, packages by version."""
    return own_code([getattr(config, name) for name in (*PARTS, *FUNCTIONS)])


def changes_since(
    report: Mapping[str, Any], config: ExperimentConfig, fingerprint: str | None
) -> list[str]:
    """Say what has changed since a run of the same settings that would now change its result.

    Args:
        report: Of the finished run.
        config: The settings.
        fingerprint: Of the data as they are now; None if they cannot be read.

    Returns:
        One phrase a change, such as `mymetric.py was edited`; none if its result still stands.
    """
    changes = [f"{name} changed while it ran" for name in report.get("changed_while_it_ran", ())]
    if report["dataset"]["fingerprint"] != fingerprint:
        changes.append("the data changed")
    before = report["environment"]["packages"]
    for name in PACKAGES:
        if before.get(name) != (now := package_version(name)):
            changes.append(f"{name} was {before.get(name)} and is {now}")
    then, now_used = report.get("own_code", {}), run_code(config)
    for name in sorted({*then, *now_used}):
        if then.get(name) != now_used.get(name):
            changes.append(_code_change(name, then, now_used))
    return changes


def _code_change(name: str, then: Mapping[str, str], now: Mapping[str, str]) -> str:
    if name not in now:
        return f"{name} is not used any more"
    if name not in then:
        return f"{name} was not used, or not noted"
    is_package = " " in now[name]
    return f"{name} was {then[name]} and is {now[name]}" if is_package else f"{name} was edited"


def origin_of(config: ExperimentConfig, components: Components) -> dict[str, str]:
    """Say what a run depends on."""
    return {f"{CODE_OF}{name}": value for name, value in run_code(config).items()} | {
        "settings": config_hash(config),
        "data": components.dataset.fingerprint,
        "torch": torch.__version__,
        "device": components.device.type,
        "admm-exp": str(package_version("admm-exp")),
        "code": _code_of(components),
    }


def changed_since_begun(now: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Tell what a run began with and goes on without: its result is that of neither.

    Args:
        now: What it depends on now.
        then: What it depended on when it stopped.

    Returns:
        Earlier values by name.
    """
    names = [*now, *(name for name in then if name not in now)]
    return {name: str(then.get(name)) for name in names if then.get(name) != now.get(name)}


def _code_of(components: Components) -> str:
    """Hash the files that a user may have edited between a stop and a resume."""
    builder = pkgutil.resolve_name(components.builder["_target_"])
    parts = (builder, components.train_fn, components.evaluate_fn, components.metric)
    return digest([code_digest(part) for part in parts if part is not None])


def source_digest(model: nn.Module) -> str:
    """Hash the code that a network's layers come from, PyTorch's own left out.

    A cached network must not be reused for code that computes something else with its weights.
    """
    return _digest_of_files({type(module).__module__ for module in model.modules()})


def code_digest(built: Any) -> str:
    """Hash the file that a function, a partial one, or the class of an object comes from."""
    origin = getattr(built, "func", built)
    return _digest_of_files({getattr(origin, "__module__", type(origin).__module__)})


def _digest_of_files(names: set[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and not name.startswith(("torch.", "torchvision.")):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:16]
