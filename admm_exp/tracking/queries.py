"""What a store already holds: finished runs, an unfinished sweep, runs whose process died."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from admm_exp.tracking.address import absolute_uri, require_reachable
from admm_exp.tracking.owner import has_died
from admm_exp.tracking.store import experiment_id, opened
from admm_exp.tracking.stored_runs import StoredRun, runs_by_id, stored_runs
from admm_exp.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOST = "its process died without a word: killed, or out of memory"


def earlier_sweep(
    tracking_uri: str, experiment_name: str, artifact_root: Path, sweep_hash: str
) -> str | None:
    """Find the parent run of an earlier start of a sweep, and close runs whose process died.

    Args:
        tracking_uri: Where MLflow keeps runs.
        experiment_name: The experiment, created if missing.
        artifact_root: Folder for artifacts of a store without a server.
        sweep_hash: Names the set of jobs.

    Returns:
        Its id; None if the sweep is new or its earlier start is still running.

    Raises:
        TrackingError: The store cannot be reached or used.
    """
    uri = absolute_uri(tracking_uri)
    require_reachable(uri)
    with opened(uri, artifact_root) as client:
        experiment = experiment_id(client, experiment_name, artifact_root)
        close_lost(client, experiment)
        same = f"tags.kind = 'sweep' and tags.sweep_hash = '{sweep_hash}'"
        over = (run for run in _search(client, experiment, same) if run.status != "RUNNING")
        earlier = next(over, None)
    return None if earlier is None else earlier.run_id


def finished_among(
    tracking_uri: str, experiment_name: str, run_ids: Sequence[str]
) -> frozenset[str]:
    """Return those of the runs that an experiment holds as finished; no others are read.

    Args:
        tracking_uri: Where MLflow keeps runs.
        experiment_name: The experiment.
        run_ids: The runs.

    Raises:
        TrackingError: The store cannot be reached or used.
    """
    if not run_ids:
        return frozenset()
    with opened(absolute_uri(tracking_uri), Path()) as client:
        found = client.get_experiment_by_name(experiment_name)
        if found is None:
            return frozenset()
        done = "attributes.status = 'FINISHED' and tags.kind = 'run'"
        runs = runs_by_id(client, str(found.experiment_id), run_ids, done)
        return frozenset(run.run_id for run in runs)


def close_lost_children(tracker: Tracker, folder: Path) -> None:
    """Mark the children of a sweep as KILLED that no process works on any more.

    Args:
        tracker: The sweep's parent run.
        folder: Of the sweep, whose jobs are all over: their runs are too, also on other machines.
    """
    if tracker.tracking_uri is None or tracker.run_id is None:
        return
    with opened(tracker.tracking_uri, Path()) as client:
        close_lost(client, str(tracker.experiment_id), tracker.run_id, folder)


def close_lost(
    client: "MlflowClient",
    experiment: str,
    parent_run_id: str | None = None,
    folder: Path | None = None,
) -> None:
    """Mark runs as KILLED that stayed RUNNING although their process is gone.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        parent_run_id: Look at this run's children alone.
        folder: Runs in it are over as well.
    """
    among = "attributes.status = 'RUNNING'"
    if parent_run_id is not None:
        among += f" and tags.`mlflow.parentRunId` = '{parent_run_id}'"
    for run in list(_search(client, experiment, among)):
        is_over = folder is not None and Path(run.tags.get("run_dir", "")).is_relative_to(folder)
        if is_over or has_died(run.tags):
            client.set_tag(run.run_id, "error", LOST)
            client.set_terminated(run.run_id, "KILLED")


def _search(client: "MlflowClient", experiment: str, among: str) -> Iterator[StoredRun]:
    return stored_runs(client, experiment, among, ("tags",))
