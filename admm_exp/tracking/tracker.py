"""What an experiment tells about itself, and the tracker that keeps none of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Baseline:
    """A dense network as a run of its own.

    Args:
        key: Names all that the network depends on.
        lock: File that keeps two processes from creating the run twice.
        name: Of the run.
        params: Settings that the network depends on.
        curves: (step, metrics) of every epoch.
        final: Metrics of the trained network.
    """

    key: str
    lock: Path
    name: str
    params: Mapping[str, object]
    curves: Sequence[tuple[int, Mapping[str, float]]]
    final: Mapping[str, float]


class Tracker(Protocol):
    """Where an experiment's parameters, curves and files go."""

    run_id: str | None
    experiment_id: str | None
    tracking_uri: str | None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log settings once.

        Args:
            params: Nested mappings; a name that the run already has keeps its value.
        """

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one point to each of several curves.

        Args:
            metrics: Values; NaN and infinities are allowed.
            step: Position on the curves.
        """

    def log_dataset(
        self, name: str, digest: str, context: str, profile: Mapping[str, object]
    ) -> None:
        """Say which data the run uses.

        Args:
            name: The data set.
            digest: Hash of at most 36 characters.
            context: What it is for, such as "train".
            profile: Sizes and other facts, JSON values only.
        """

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file or folder with the run.

        Args:
            path: What to copy.
            folder: Where it goes among the run's artifacts.
        """

    def share_baseline(self, baseline: Baseline) -> None:
        """Point to the baseline run that all runs with this dense network share.

        Args:
            baseline: The dense network's name and numbers.
        """

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing older values.

        Args:
            tags: Texts of at most 8000 characters.
        """

    def flush(self) -> None:
        """Send now what is buffered."""

    def finish(self, status: RunStatus, error: str | None = None) -> None:
        """Send the rest and end the run; further calls do nothing.

        Args:
            status: How the run ended.
            error: What failed, kept as the tag `error`.
        """


class NullTracker:
    """Tracks nothing."""

    run_id: str | None = None
    experiment_id: str | None = None
    tracking_uri: str | None = None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def log_dataset(
        self, name: str, digest: str, context: str, profile: Mapping[str, object]
    ) -> None:
        """Do nothing."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Do nothing."""

    def share_baseline(self, baseline: Baseline) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def finish(self, status: RunStatus, error: str | None = None) -> None:
        """Do nothing."""
