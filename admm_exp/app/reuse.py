"""Whether the result of a finished run still stands for its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from admm_exp.app.instantiate import build
from admm_exp.config.hashes import digest
from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import AdmmExpError
from admm_exp.results import read_json

DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)

_fingerprints: dict[str, str | None] = {}


def changes_since_report(path: Path, config: ExperimentConfig) -> list[str]:
    """Say what has changed since a run that would change its result now.

    Args:
        path: Its report.json.
        config: The settings, which are the same.

    Returns:
        One phrase a change; none if the result still stands.
    """
    from admm_exp.experiment.identity import changes_since

    try:
        report: dict[str, Any] = read_json(path)
        return changes_since(report, config, fingerprint_of(config.dataset))
    except DAMAGE as error:
        return [f"{path} is damaged ({error})"]


def fingerprint_of(dataset: Mapping[str, Any]) -> str | None:
    """Read what the data are now, once for all jobs; None if they cannot be read.

    Args:
        dataset: Settings of the data set.
    """
    key = digest(_of_data(dataset))
    if key not in _fingerprints:
        try:
            _fingerprints[key] = build("dataset", dict(dataset)).fingerprint
        except AdmmExpError:
            _fingerprints[key] = None
    return _fingerprints[key]


def _of_data(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what decides the order of our own data sets alone."""
    is_own = str(dataset.get("_target_", "")).startswith("admm_exp.data.")
    return {key: value for key, value in dataset.items() if not (is_own and key == "seed")}
