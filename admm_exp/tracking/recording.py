"""What all trackers do that send entries to a store: write them down first."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from admm_exp.tracking import limits
from admm_exp.tracking.journal import Journal, baseline_entry, metrics_entry
from admm_exp.tracking.tracker import Baseline

LOST_END = (
    "MLflow at %s did not take the end of the run (%s): its status there may be wrong, "
    "deliver %s with admm-exp-sync"
)


class OpenedRun(NamedTuple):
    """A run of a store, whose address may hold a password."""

    run_id: str
    experiment_id: str
    tracking_uri: str


class RecordingTracker(ABC):
    """A tracker whose entries are in the journal file before they are sent.

    Args:
        run: Whom the entries are for.
        journal: The file.
        known_points: Key and step of points that the file or the store holds, which are not logged
            anew.
    """

    def __init__(
        self, run: OpenedRun, journal: Journal, known_points: Iterable[tuple[str, int]] = ()
    ) -> None:
        self.run_id: str | None = run.run_id
        self.experiment_id: str | None = run.experiment_id
        self.tracking_uri: str | None = run.tracking_uri
        self.journal = journal
        self.known_points = set(known_points)

    @abstractmethod
    def take(self, entry: Mapping[str, Any]) -> None:
        """Send an entry of the journal."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log the settings that the run lacks."""
        self._record({"params": limits.flatten(params)})

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the points that are new."""
        now_ms = time.time_ns() // 1_000_000
        values = {limits.legal_key(key): float(value) for key, value in metrics.items()}
        new = {key: v for key, v in values.items() if (key, step) not in self.known_points}
        if new:
            self.known_points.update((key, step) for key in new)
            self._record(metrics_entry(step, now_ms, new))

    def log_dataset(
        self, name: str, digest: str, context: str, profile: Mapping[str, object]
    ) -> None:
        """Log a dataset input that holds facts, not data."""
        if len(digest) > limits.MAX_DIGEST_LENGTH:
            raise ValueError(f"digest must have at most 36 characters, got {len(digest)}")
        facts = {"name": name, "digest": digest, "context": context, "profile": dict(profile)}
        self._record({"dataset": facts})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file or folder to the run's artifacts."""
        if not path.exists():
            raise FileNotFoundError(f"no artifact at {path}")
        self._record({"artifact": {"path": str(path), "folder": folder}})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, all in one call."""
        self._record({"tags": dict(tags)})

    def share_baseline(self, baseline: Baseline) -> None:
        """Point to the baseline run of a dense network, created if the store lacks it."""
        self._record(baseline_entry(baseline))

    def _record(self, entry: Mapping[str, Any]) -> None:
        self.journal.append(entry)
        self.take(entry)
