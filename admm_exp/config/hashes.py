"""What decides a result: hashes of settings."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from admm_exp.config.settings import ExperimentConfig
from admm_exp.results import WEIGHTS

INCIDENTAL = {
    *("name", "experiment_name", "tracking", "tracking_uri", "device", "force", "export"),
    *("inference", "figures"),
}
"""Settings that do not decide a run's result."""


INCIDENTAL_TO_TRAINER = {"devices", "patience_seconds"}
NEUTRAL = {"accumulation": 1, "clip_norm": None, "epoch_parts": 1}
"""Settings of a schedule that came later; with these values they change nothing, no hash either."""


def digest(value: Any) -> str:
    """Hash plain data to 16 hex digits."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_hash(path: str | Path | None) -> str | None:
    """Hash what a file holds; None where no file is given."""
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def config_hash(config: ExperimentConfig) -> str:
    """Name the runs that must have the same result."""
    return digest(_decisive(config))


def group_hash(config: ExperimentConfig) -> str:
    """Name the runs that differ by their seed alone."""
    return digest(_without_seed(_decisive(config)))


def dataset_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Read the settings of the data set that decide what a network sees."""
    return {k: v for k, v in config.dataset.items() if k not in {"root", "download", "workers"}}


def step_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Read what makes steps and epochs other than usual; empty by default."""
    values = {name: getattr(config.schedule, name) for name in NEUTRAL}
    return {name: value for name, value in values.items() if value != NEUTRAL[name]}


def _decisive(config: ExperimentConfig) -> dict[str, Any]:
    settings = {key: value for key, value in asdict(config).items() if key not in INCIDENTAL}
    settings["layers"] = Path(config.layers).read_text() if config.layers else None
    settings["pretrained"] = content_hash(config.pretrained)
    if config.from_run:
        settings["from_run"] = content_hash(Path(config.from_run) / WEIGHTS)
    if not config.keep_streams:  # younger than the runs whose hashes are known
        del settings["keep_streams"]
    trainer = {k: v for k, v in settings["trainer"].items() if k not in INCIDENTAL_TO_TRAINER}
    schedule = {k: v for k, v in settings["schedule"].items() if k not in NEUTRAL}
    schedule |= step_settings(config)
    return settings | {
        "dataset": dataset_settings(config),
        "trainer": trainer,
        "schedule": schedule,
    }


def _without_seed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_seed(item) for key, item in value.items() if key != "seed"}
    return value
