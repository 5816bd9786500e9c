"""The tracker that writes to MLflow, in few calls and without ever stopping a training."""

import getpass
import json
import logging
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
    baseline_of,
    ending_entries,
    metrics_of,
    origin_entry,
    read_entries,
)
from admm_exp.tracking.own_store import require_own_artifacts
from admm_exp.tracking.owner import owner_tags
from admm_exp.tracking.queries import close_lost
from admm_exp.tracking.recording import LOST_END, OpenedRun, RecordingTracker
from admm_exp.tracking.sender import Sender
from admm_exp.tracking.store import experiment_id, opened, writing
from admm_exp.tracking.tracker import RunStatus

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
    empty: Path | None = None,
) -> "MlflowTracker":
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
        empty: A database of `empty_database` that a store without tables becomes.

    Raises:
        TrackingError: The store cannot be reached or used, or has no such run.
    """
    uri = absolute_uri(tracking_uri)
    require_reachable(uri)
    all_tags = _short(_own_tags() | dict(tags))
    parent = {} if parent_run_id is None else {"mlflow.parentRunId": parent_run_id}
    stored: set[tuple[str, int]] = set()
    with opened(uri, artifact_root, empty) as client:
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


class MlflowTracker(RecordingTracker):
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
        self._run_id = str(run.info.run_id)
        super().__init__(
            OpenedRun(self._run_id, str(run.info.experiment_id), tracking_uri), journal, stored
        )
        self._client = client
        self._sender = Sender(
            tracking_uri, journal.path, lambda part: client.log_batch(self._run_id, metrics=part)
        )
        self._known_params = set(run.data.params)
        self._finished = False

    def take(self, entry: Mapping[str, Any]) -> None:
        """Send what an entry of the journal tells."""
        if "metrics" in entry:
            self.take_metrics([entry])
        if "params" in entry:
            self._take_params(entry["params"])
        if "tags" in entry:
            self._sender.take(self._tagging(entry["tags"]))
        if "baseline" in entry:
            own = (self._client, str(self.experiment_id), self._run_id)
            self._sender.take(partial(share_baseline, *own, baseline_of(entry)))
        if "dataset" in entry:
            self._take_dataset(**entry["dataset"])
        if "artifact" in entry:
            place = (entry["artifact"]["path"], entry["artifact"]["folder"])
            self._sender.take(partial(self._client.log_artifact, self._run_id, *place))

    def take_metrics(self, recorded: Iterable[Mapping[str, Any]]) -> None:
        """Buffer the points of recorded entries for the next flush."""
        from mlflow.entities import Metric

        points = list(metrics_of(recorded))
        self.known_points.update((key, step) for key, _, _, step in points)
        self._sender.take_metrics([Metric(*point) for point in points])

    def flush(self) -> None:
        """Send what waits; if the server fails, keep it and warn once."""
        self._sender.deliver()

    def finish(self, status: RunStatus, error: str | None = None) -> None:
        """Send the rest and set the status; if the server fails, warn once more."""
        if self._finished:
            return
        self._finished = True
        last: list[Callable[[], object]] = []
        for entry in ending_entries(status, error):
            self.journal.append(entry)
            if "tags" in entry:
                last.append(self._tagging(entry["tags"]))
        last.append(partial(self._client.set_terminated, self._run_id, status))
        try:
            self._sender.deliver_last(last)
        except Exception as failure:
            logger.warning(LOST_END, *self._sender.describe(failure))
        else:
            self.journal.append({DELIVERED: True})

    def _take_params(self, flat: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        missing = [Param(key, flat[key]) for key in flat if key not in self._known_params]
        self._known_params.update(flat)
        for part in limits.chunks(missing, limits.PARAMS_PER_CALL):
            self._sender.take(partial(self._client.log_batch, self._run_id, params=part))

    def _take_dataset(
        self, name: str, digest: str, context: str, profile: Mapping[str, object]
    ) -> None:
        """Log a dataset input that holds facts, not data."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": {"mlflow.source.name": "admm-exp"}})
        dataset = Dataset(name, digest, "code", source, profile=json.dumps(dict(profile)))
        data_input = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        self._sender.take(partial(self._client.log_inputs, self._run_id, [data_input]))

    def _tagging(self, tags: Mapping[str, str]) -> Callable[[], object]:
        """Return the call that sets tags, all at once."""
        from mlflow.entities import RunTag

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
