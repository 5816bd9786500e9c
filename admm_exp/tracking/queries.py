"""What a store already holds: finished runs, an unfinished sweep, runs whose process died."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from admm_exp.tracking.address import absolute_uri, require_reachable
from admm_exp.tracking.owner import has_died
from admm_exp.tracking.store import experiment_id, opened
from admm_exp.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000
LOST = "its process died without a word: killed, or out of memory"


@dataclass(frozen=True)
class Held:
    """What a store holds of a sweep.

    Args:
        finished: Ids of the experiment's finished runs.
        sweep_run_id: Parent run of an earlier start of the same sweep that is over.
    """

    finished: frozenset[str]
    sweep_run_id: str | None


def look_up(tracking_uri: str, experiment_name: str, artifact_root: Path, sweep_hash: str) -> Held:
    """Ask a store what it holds of a sweep, and close runs whose process died.

    Args:
        tracking_uri: Where MLflow keeps runs.
        experiment_name: The experiment, created if missing.
        artifact_root: Folder for artifacts of a store without a server.
        sweep_hash: Names the set of jobs.

    Raises:
        TrackingError: The store cannot be reached or used.
    """
    uri = absolute_uri(tracking_uri)
    require_reachable(uri)
    with opened(uri, artifact_root) as client:
        experiment = experiment_id(client, experiment_name, artifact_root)
        close_lost(client, experiment)
        runs = search(client, experiment, "attributes.status = 'FINISHED' and tags.kind = 'run'")
        finished = frozenset(str(run.info.run_id) for run in runs)
        same = f"tags.kind = 'sweep' and tags.sweep_hash = '{sweep_hash}'"
        over = (run for run in search(client, experiment, same) if run.info.status != "RUNNING")
        earlier = next(over, None)
    return Held(finished, None if earlier is None else str(earlier.info.run_id))


def close_lost_children(tracker: Tracker) -> None:
    """Mark the children of a sweep as KILLED whose process is gone.

    Args:
        tracker: The sweep's parent run.
    """
    if tracker.tracking_uri is None or tracker.run_id is None:
        return
    with opened(tracker.tracking_uri, Path()) as client:
        close_lost(client, str(tracker.experiment_id), tracker.run_id)


def close_lost(client: "MlflowClient", experiment: str, parent_run_id: str | None = None) -> None:
    """Mark runs as KILLED that stayed RUNNING although their process is gone.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        parent_run_id: Look at this run's children alone.
    """
    among = "attributes.status = 'RUNNING'"
    if parent_run_id is not None:
        among += f" and tags.`mlflow.parentRunId` = '{parent_run_id}'"
    for run in list(search(client, experiment, among)):
        if has_died(run.data.tags):
            client.set_tag(run.info.run_id, "error", LOST)
            client.set_terminated(run.info.run_id, "KILLED")


def search(client: "MlflowClient", experiment: str, among: str) -> Iterator["Run"]:
    """Yield an experiment's runs, newest first.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        among: MLflow's filter.
    """
    token = None
    while True:
        page = client.search_runs([experiment], among, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
