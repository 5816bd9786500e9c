"""The tracker that writes to MLflow, in few calls and without ever stopping a training."""

import getpass
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from admm_exp.errors import TrackingError
from admm_exp.tracking import limits
from admm_exp.tracking.address import absolute_uri, require_reachable, without_password
from admm_exp.tracking.baseline import share_baseline
from admm_exp.tracking.journal import (
    DELIVERED,
    Journal,
    baseline_entry,
    metrics_entry,
    metrics_of,
    origin_entry,
    read_entries,
)
from admm_exp.tracking.own_store import require_own_artifacts
from admm_exp.tracking.owner import owner_tags
from admm_exp.tracking.queries import close_lost
from admm_exp.tracking.sender import Sender
from admm_exp.tracking.store import experiment_id, opened, writing
from admm_exp.tracking.tracker import Baseline, RunStatus, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)


def open_tracker(
    tracking_uri: str,
    experiment_name: str,
    run_name: str,
    artifact_root: Path,
    journal: Path,
    *,
    tags: Mapping[str, str],
    parent_run_id: str | None = None,
    run_id: str | None = None,
) -> Tracker:
    """Start an MLflow run, or go on with one.

    Args:
        tracking_uri: Where MLflow keeps runs; a relative SQLite path starts at the current folder.
        experiment_name: Experiment of a new run, created if missing.
        run_name: Name of a new run.
        artifact_root: Folder for artifacts; a tracking server chooses its own.
        journal: File that keeps every entry as well; an earlier run's is begun anew, that of the
            run to go on with is gone on with, and what it holds is sent again.
        tags: The run's tags.
        parent_run_id: Run under which a new run is shown.
        run_id: Run to go on with; it keeps its experiment, name and parent.

    Raises:
        TrackingError: The store cannot be reached or used, or has no such run.
    """
    uri = absolute_uri(tracking_uri)
    require_reachable(uri)
    all_tags = _short(_own_tags() | dict(tags))
    parent = {} if parent_run_id is None else {"mlflow.parentRunId": parent_run_id}
    stored: set[tuple[str, int]] = set()
    with opened(uri, artifact_root) as client:
        if run_id is None:
            experiment = experiment_id(client, experiment_name, artifact_root)
            if parent_run_id is None:  # a sweep has looked already
                close_lost(client, experiment)
            with writing(uri):
                run = client.create_run(experiment, run_name=run_name, tags=all_tags | parent)
        else:
            run = _reopened(client, run_id)
            stored.update(_points_of(client, run))
    if run_id is None:
        journal.unlink(missing_ok=True)
    tracker = MlflowTracker(client, run, uri, Journal(journal), stored)
    recorded = read_entries(journal)
    if not recorded:
        tracker.journal.append(origin_entry(without_password(uri), run.info.run_id))
    if run_id is None:
        tracker.journal.append({"tags": all_tags})
    else:
        tracker.take_metrics(recorded)
        tracker.set_tags(all_tags)
    return tracker


class MlflowTracker:
    """A tracker that buffers metrics and keeps what a failing server does not take.

    Everything waits until the server has it, and all entries are in the journal file in any case. A
    metric sent twice is stored once, because it keeps its timestamp; a point that the journal file
    or the server holds is not logged anew.
    """

    def __init__(
        self,
        client: "MlflowClient",
        run: "Run",
        tracking_uri: str,
        journal: Journal,
        stored: Iterable[tuple[str, int]] = (),
    ) -> None:
        require_own_artifacts(tracking_uri, run.info.run_id, run.info.artifact_uri)
        self.journal = journal
        self.run_id: str | None = run.info.run_id
        self.experiment_id: str | None = run.info.experiment_id
        self.tracking_uri: str | None = tracking_uri
        self._client = client
        self._run_id = str(run.info.run_id)
        self._sender = Sender(
            tracking_uri, journal.path, lambda part: client.log_batch(self._run_id, metrics=part)
        )
        self._known_points = set(stored)
        self._known_params = set(run.data.params)
        self._finished = False

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log the settings that the run lacks."""
        from mlflow.entities import Param

        flat = limits.flatten(params)
        self.journal.append({"params": flat})
        missing = [Param(key, flat[key]) for key in flat if key not in self._known_params]
        self._known_params.update(flat)
        for part in limits.chunks(missing, limits.PARAMS_PER_CALL):
            self._sender.take(partial(self._client.log_batch, self._run_id, params=part))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write down the points that are new and buffer them for the next flush."""
        now_ms = time.time_ns() // 1_000_000
        values = {limits.legal_key(key): float(value) for key, value in metrics.items()}
        new = {key: v for key, v in values.items() if (key, step) not in self._known_points}
        if new:
            entry = metrics_entry(step, now_ms, new)
            self.journal.append(entry)
            self.take_metrics([entry])

    def take_metrics(self, recorded: list[dict[str, Any]]) -> None:
        """Buffer the points of recorded entries for the next flush."""
        from mlflow.entities import Metric

        points = list(metrics_of(recorded))
        self._known_points.update((key, step) for key, _, _, step in points)
        self._sender.take_metrics([Metric(*point) for point in points])

    def log_dataset(
        self, name: str, digest: str, context: str, profile: Mapping[str, object]
    ) -> None:
        """Log a dataset input that holds facts, not data."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if len(digest) > limits.MAX_DIGEST_LENGTH:
            raise ValueError(f"digest must have at most 36 characters, got {len(digest)}")
        facts = {"name": name, "digest": digest, "context": context, "profile": dict(profile)}
        self.journal.append({"dataset": facts})
        source = json.dumps({"tags": {"mlflow.source.name": "admm-exp"}})
        dataset = Dataset(name, digest, "code", source, profile=json.dumps(dict(profile)))
        data_input = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        self._sender.take(partial(self._client.log_inputs, self._run_id, [data_input]))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file or folder to the run's artifacts."""
        if not path.exists():
            raise FileNotFoundError(f"no artifact at {path}")
        self.journal.append({"artifact": {"path": str(path), "folder": folder}})
        self._sender.take(partial(self._client.log_artifact, self._run_id, str(path), folder))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, all in one call."""
        self._sender.take(self._tagging(tags))

    def share_baseline(self, baseline: Baseline) -> None:
        """Point to the baseline run of a dense network, created if the store lacks it."""
        self.journal.append(baseline_entry(baseline))
        own = (self._client, str(self.experiment_id), self._run_id)
        self._sender.take(partial(share_baseline, *own, baseline))

    def flush(self) -> None:
        """Send what waits; if the server fails, keep it and warn once."""
        self._sender.deliver()

    def finish(self, status: RunStatus, error: str | None = None) -> None:
        """Send the rest and set the status; if the server fails, warn once more."""
        if self._finished:
            return
        self._finished = True
        last = [] if error is None else [self._tagging({"error": error})]
        self.journal.append({"status": status})
        last.append(partial(self._client.set_terminated, self._run_id, status))
        try:
            self._sender.deliver_last(last)
        except Exception as failure:
            logger.warning(
                "MLflow at %s did not take the end of the run (%s): its status there may be wrong, "
                "deliver %s with admm-exp-sync",
                *self._sender.describe(failure),
            )
        else:
            self.journal.append({DELIVERED: True})

    def _tagging(self, tags: Mapping[str, str]) -> Callable[[], object]:
        """Write tags down and return the call that sets them."""
        from mlflow.entities import RunTag

        self.journal.append({"tags": dict(tags)})
        entities = [RunTag(key, value) for key, value in _short(tags).items()]
        return partial(self._client.log_batch, self._run_id, tags=entities)


def _reopened(client: "MlflowClient", run_id: str) -> "Run":
    run = client.get_run(run_id)
    if run.info.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the run {run_id} is deleted: restore it with `mlflow runs restore --run-id {run_id}` "
            "or start a new run"
        )
    client.update_run(run_id, status="RUNNING")
    if "error" in run.data.tags:
        client.delete_tag(run_id, "error")
    return run


def _points_of(client: "MlflowClient", run: "Run") -> Iterator[tuple[str, int]]:
    """List what the server has: a full disk or a deleted file may have kept it from the journal."""
    for key in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, key):
            yield key, point.step


def _own_tags() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return {"mlflow.source.name": "admm-exp", "mlflow.user": user} | owner_tags()


def _short(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: str(value)[: limits.MAX_TAG_LENGTH] for key, value in tags.items()}
