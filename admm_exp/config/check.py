"""From a plain mapping to a checked ExperimentConfig; pydantic's only home."""

import dataclasses
import difflib
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints

from admm_exp.admm.settings import WStep
from admm_exp.config.keys import unknown_keys
from admm_exp.config.parts import nameless
from admm_exp.config.settings import (
    COMPILE_VALUES,
    ExperimentConfig,
    OptimizerName,
    Precision,
    TrainerSettings,
)
from admm_exp.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Settings = TypeVar("Settings")
WHOLE = (int, int | None)
PLAIN_TYPES = (int, float, bool, str, int | None, float | None, str | None)


def check_config(settings: Mapping[str, Any], given: Iterable[str] = ()) -> ExperimentConfig:
    """Check composed settings and turn them into an ExperimentConfig.

    Args:
        settings: Nested plain containers, interpolations resolved.
        given: Overrides as the user typed them; one that would not be used is refused.

    Raises:
        ConfigError: One sentence a finding, each naming the key, its value and what is allowed.
    """
    findings = _check_rho(settings.get("rho"))
    config, others = _bound(settings, ExperimentConfig)
    findings += others
    if config is not None:
        findings += [*nameless(config)] or [
            *_infinite(config),
            *_check_together(config),
            *_unused(config, given),
        ]
    if findings or config is None:
        raise ConfigError("; ".join(findings))
    return config


def check_settings(settings: Mapping[str, Any], schema: type[Settings]) -> Settings:
    """Check composed settings against the dataclass of a command.

    Args:
        settings: Nested plain containers, interpolations resolved.
        schema: The dataclass.

    Raises:
        ConfigError: One sentence a finding, each naming the key, its value and what is allowed.
    """
    config, findings = _bound(settings, schema)
    if findings or config is None:
        raise ConfigError("; ".join(findings))
    return config


def check_arguments(group: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a part against the signature of what builds it.

    Args:
        group: Configuration group of the part.
        target: What builds it.
        arguments: Its keyword arguments, `_target_` and the like left in.

    Raises:
        ConfigError: If an argument is unknown or has a value that its annotation does not allow.
    """
    from pydantic import TypeAdapter, ValidationError

    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    hints = _hints(target)
    for name, value in arguments.items():
        if name.startswith("_") or (name not in parameters and takes_any):
            continue
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, 1)
            hint = f"did you mean '{group}.{near[0]}'?" if near else f"it takes {_list(parameters)}"
            raise ConfigError(f"unknown setting '{group}.{name}'; {hint}")
        if hints.get(name) in PLAIN_TYPES:
            try:
                # 3.0 is no whole number here: what is built would get it as it stands
                TypeAdapter(hints[name]).validate_python(value, strict=hints[name] in WHOLE)
            except ValidationError as error:
                item = error.errors()[0]
                raise ConfigError(_sentence(f"{group}.{name}", item)) from error


def _bound(
    settings: Mapping[str, Any], schema: type[Settings]
) -> tuple[Settings | None, list[str]]:
    """Bind settings to a dataclass; return None for it if they do not fit, and the findings."""
    from pydantic import ValidationError

    findings = list(unknown_keys(settings, schema))
    try:
        return _adapter(cast(type, schema)).validate_python(dict(settings)), findings
    except ValidationError as error:
        for item in error.errors():
            key = ".".join(
                str(part) for part in item["loc"] if not str(part).startswith("function")
            )
            if not key.startswith("rho"):
                findings.append(_sentence(key, item))
        return None, findings


@cache
def _adapter(schema: type) -> "TypeAdapter[Any]":
    """Make what binds settings to a dataclass: once, it takes longer than binding them."""
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (TypeError, NameError):  # a callable object, or names known to type checkers alone
        return {}


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _check_rho(rho: Any) -> list[str]:
    is_number = isinstance(rho, int | float) and not isinstance(rho, bool)
    if rho == "auto" or (is_number and rho > 0 and math.isfinite(rho)):
        return []
    return [f"rho must be a number greater than 0 or auto, got {rho!r}"]


def _infinite(settings: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from _infinite(value, f"{key}.")
        elif isinstance(value, float) and not math.isfinite(value) and key != "rho":
            yield f"{key} must be a finite number, got {value}"


def _check_together(config: ExperimentConfig) -> Iterator[str]:
    optimizer = config.schedule.optimizer
    w_step = config.schedule.w_step
    if optimizer.name == OptimizerName.adamw:
        if w_step == WStep.gradient:
            yield (
                "schedule.w_step=gradient pulls through the gradients, which adamw rescales, so "
                "that rho would do nothing: take schedule.w_step=proximal or reduced"
            )
        if w_step == WStep.folded:
            yield (
                "schedule.w_step=folded needs schedule.optimizer.name=sgd, got adamw: "
                "take schedule.w_step=proximal"
            )
    if optimizer.nesterov and optimizer.momentum == 0.0:
        yield (
            "schedule.optimizer.nesterov=true needs schedule.optimizer.momentum greater than 0, "
            "got 0.0"
        )
    yield from _check_trainer(config.trainer)
    given = config.budget.given()
    if len(given) > 1:
        yield f"budget must be one of {', '.join(given)}, got {len(given)} of them"
    if config.pretrained is not None and config.from_run is not None:
        yield (
            f"pretrained={config.pretrained} and from_run={config.from_run} both give the network "
            f"to start from: give one"
        )
    if config.pretrained is not None and not Path(config.pretrained).is_file():
        yield f"pretrained must be a file with the weights of a network, got {config.pretrained}"
    if config.layers is not None and _is_device(Path(config.layers)):
        yield f"layers must be a file, got {config.layers}, which is a device or a pipe"
    schedule = config.schedule
    teachers = {
        "schedule.admm_distillation": schedule.admm_distillation.weight,
        "schedule.finetune.distillation": schedule.finetune.distillation.weight,
    }
    taught = [f"{name}.weight={weight}" for name, weight in teachers.items() if weight]
    if config.train_fn and taught:
        yield f"train_fn has a loss of its own, which {taught[0]} cannot teach: set it to 0"
    if config.train_fn and schedule.accumulation > 1:
        yield f"train_fn steps by itself: set schedule.accumulation={schedule.accumulation} to 1"
    yield from _check_counting(config)


def _check_counting(config: ExperimentConfig) -> Iterator[str]:
    given = config.budget.given()
    granularity = config.granularity["name"]
    asked = [f"budget.{name}={value}" for name, value in given.items()]
    if config.channel_multiple > 1:
        asked.append(f"channel_multiple={config.channel_multiple}")
    if config.keep_streams:
        asked.append("keep_streams=true")
    if asked and granularity != "channel":
        yield f"{asked[0]} counts whole channels: granularity must be channel, got {granularity}"
    for name, value in given.items():
        if not 0.0 < value < 1.0:
            yield f"budget.{name} must be in (0, 1), got {value}"


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _check_trainer(trainer: TrainerSettings) -> Iterator[str]:
    if trainer.compile not in COMPILE_VALUES:
        allowed = _list(str(value).lower() for value in COMPILE_VALUES)
        yield f"trainer.compile must be one of {allowed}, got {trainer.compile}"
    if trainer.devices > (most := max(16, 4 * (os.cpu_count() or 1))):
        yield f"trainer.devices must be at most {most} on this machine, got {trainer.devices}"
    if trainer.devices > 1 and (trainer.compile or trainer.precision == Precision.fp16):
        yield (
            f"trainer.devices={trainer.devices} goes with trainer.compile=false and "
            f"trainer.precision=float32, tf32 or bf16 alone, got "
            f"compile={str(trainer.compile).lower()} and precision={trainer.precision}"
        )


def _unused(config: ExperimentConfig, given: Iterable[str]) -> Iterator[str]:
    """Find what a user typed beside another setting that takes its place."""
    keys = {override.lstrip("+").partition("=")[0] for override in given}
    budget = config.budget.given()
    if budget and "sparsity" in keys:
        name, value = next(iter(budget.items()))
        yield f"budget.{name}={value} chooses the sparsities: leave sparsity={config.sparsity} out"
    if "budget.latency_batch" in keys and "latency" not in budget:
        yield (
            f"budget.latency_batch={config.budget.latency_batch} is what budget.latency is "
            f"measured on: give it, or leave the batch out"
        )
    dense = sorted(key for key in keys if key.startswith("schedule.dense."))
    if config.pretrained is not None and dense:
        yield (
            f"pretrained={config.pretrained} is not trained before it is pruned: leave "
            f"{', '.join(dense)} out"
        )


def _sentence(key: str, item: Any) -> str:
    value, context = item["input"], item.get("ctx", {})
    if item["type"] == "string_too_short":
        return f"{key} must not be empty"
    if item["type"] == "missing":
        return f"{key} is missing: set it with {key}=VALUE"
    if item["type"] in {"greater_than_equal", "less_than"} and key.endswith("sparsity"):
        return f"{key} must be in [0, 1), got {value}"
    rules = {
        "greater_than": "greater than {gt}",
        "greater_than_equal": "at least {ge}",
        "less_than": "less than {lt}",
        "less_than_equal": "at most {le}",
        "enum": "one of {expected}",
    }
    if rule := rules.get(item["type"]):
        return f"{key} must be {rule.format(**context)}, got {value}"
    message = item["msg"].removeprefix("Input ").removeprefix("should ")
    return f"{key} must {message[0].lower()}{message[1:]}, got {value!r}"
