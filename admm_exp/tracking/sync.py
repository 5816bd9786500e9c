"""Delivering what a run could not tell MLflow while it lasted."""

import logging
from pathlib import Path
from typing import Literal

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import absolute_uri, require_reachable
from admm_exp.tracking.journal import DELIVERED, Journal, baseline_of, origin_of, read_entries
from admm_exp.tracking.mlflow_tracker import MlflowTracker
from admm_exp.tracking.owner import has_died
from admm_exp.tracking.store import opened

Outcome = Literal["delivered", "nothing to deliver", "still running"]

logger = logging.getLogger(__name__)


def deliver_journal(path: Path, tracking_uri: str | None = None) -> Outcome:
    """Send MLflow all entries of a journal file, in order; those it has already change nothing.

    A run whose process died without a word is marked as KILLED.

    Args:
        path: The journal file of a run.
        tracking_uri: Where the run is kept; None for what the file says.

    Raises:
        TrackingError: The store cannot be reached or used, or does not take all entries.
    """
    recorded = read_entries(path)
    origin = origin_of(recorded)
    if origin is None or DELIVERED in recorded[-1]:
        return "nothing to deliver"
    tags: dict[str, str] = {}
    status = None
    for entry in recorded:
        if "pid" in entry.get("tags", {}):  # a process that began or went on with the run
            tags, status = entry["tags"], None
        status = entry.get("status", status)
    if status is None and not has_died(tags):
        return "still running"
    uri = absolute_uri(tracking_uri or origin[0])
    require_reachable(uri)
    with opened(uri, path.parent) as client:
        run = client.get_run(origin[1])
    journal = Journal(path)
    tracker = MlflowTracker(client, run, uri, journal)
    journal.is_muted = True
    for entry in recorded:
        if "params" in entry:
            tracker.log_params(entry["params"])
        if "tags" in entry:
            tracker.set_tags(entry["tags"])
        if "baseline" in entry:
            tracker.share_baseline(baseline_of(entry))
        if "dataset" in entry:
            tracker.log_dataset(**entry["dataset"])
        if "artifact" in entry:
            _log_artifact(tracker, Path(entry["artifact"]["path"]), entry["artifact"]["folder"])
    tracker.take_metrics(recorded)
    journal.is_muted = False
    tracker.finish(status or "KILLED")
    if DELIVERED not in read_entries(path)[-1]:
        raise TrackingError(f"MLflow did not take all of {path}: try again later")
    return "delivered"


def _log_artifact(tracker: MlflowTracker, path: Path, folder: str | None) -> None:
    if path.exists():
        tracker.log_artifact(path, folder)
    else:
        logger.warning("%s is gone and cannot be delivered", path)
