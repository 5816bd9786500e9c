"""Delivering what a run could not tell MLflow while it lasted."""

import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import absolute_uri, require_reachable, without_password
from admm_exp.tracking.journal import (
    DAMAGE,
    DELIVERED,
    Journal,
    baseline_of,
    read_entries,
    recorded_run,
)
from admm_exp.tracking.mlflow_tracker import MlflowTracker
from admm_exp.tracking.own_store import is_same_store
from admm_exp.tracking.owner import has_died
from admm_exp.tracking.store import opened
from admm_exp.tracking.tracker import Baseline

Outcome = Literal["delivered", "nothing to deliver", "still running"]

BLOCK_BYTES = 512
"""What a file's blocks are counted in, whatever the disk's own are."""
MOST_MISSING_BYTES = 2**28
"""Of a file: a copy of what is not there would fill the disk of who receives it."""

logger = logging.getLogger(__name__)


def deliver_journal(path: Path, tracking_uri: str, *, is_chosen: bool = True) -> Outcome:
    """Send MLflow all entries of a journal file, in order; those it has already change nothing.

    The file may come from someone else: files are sent only if they lie in its folder, and only to
    the address that the user names. A run whose process died without a word is marked as KILLED.

    Args:
        path: The journal file of a run.
        tracking_uri: The user's own store.
        is_chosen: The user has named it for these runs; otherwise a run that was tracked elsewhere
            is refused.

    Raises:
        TrackingError: The file is damaged or was tracked elsewhere; or the store cannot be reached
            or used, or does not take all entries.
    """
    if path.is_symlink():
        raise TrackingError(f"{path} is a link, and nothing outside {path.parent} is sent")
    with _alone_with(path):
        return _deliver(path, tracking_uri, is_chosen=is_chosen)


@contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Wait until no other process delivers a file; where files cannot be locked, it goes ahead."""
    if not path.is_file():  # a pipe would be waited for, and is refused by who reads it
        yield
        return
    with path.open("rb") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _deliver(path: Path, tracking_uri: str, *, is_chosen: bool) -> Outcome:
    recorded = read_entries(path)
    opened_run = recorded_run(recorded)
    if opened_run is None or DELIVERED in recorded[-1]:
        return "nothing to deliver"
    tags: dict[str, str] = {}
    status = None
    for entry in recorded:
        if "pid" in entry.get("tags", {}):  # a process that began or went on with the run
            tags, status = {key: str(value) for key, value in entry["tags"].items()}, None
        status = entry.get("status", status)
    if status is None and not has_died(tags):
        return "still running"
    if not (is_chosen or is_same_store(opened_run.tracking_uri, tracking_uri)):
        raise TrackingError(
            f"it was tracked at {opened_run.tracking_uri}, which your settings do not name, and "
            "nothing is sent where a folder says: confirm it with "
            + shlex.quote(f"tracking_uri={opened_run.tracking_uri}")
        )
    uri = absolute_uri(tracking_uri)
    require_reachable(uri)
    with opened(uri, path.parent) as client:
        run = client.get_run(opened_run.run_id)
    journal = Journal(path)
    tracker = MlflowTracker(client, run, uri, journal)
    journal.is_muted = True
    try:
        for entry in recorded:
            _tell(tracker, entry, path.parent, Path(tags.get("run_dir", path.parent)))
        tracker.take_metrics(recorded)
    except DAMAGE as error:
        raise TrackingError(f"{path} is damaged ({error}): delete it to go on without it") from None
    journal.is_muted = False
    tracker.finish(status or "KILLED")
    if DELIVERED not in read_entries(path)[-1]:
        raise TrackingError(
            f"MLflow at {without_password(uri)} did not take all of {path}: try again later"
        )
    return "delivered"


def _tell(tracker: MlflowTracker, entry: dict[str, Any], folder: Path, former: Path) -> None:
    """Tell a tracker what one entry keeps.

    Args:
        tracker: Of the run.
        entry: As it stands in the file.
        folder: Of the run, where its files are.
        former: Where that folder was when the run told of its files.
    """
    if "params" in entry:
        tracker.log_params(entry["params"])
    if "tags" in entry:
        tracker.set_tags(entry["tags"])
    if "baseline" in entry:
        tracker.share_baseline(_with_own_lock(baseline_of(entry), folder))
    if "dataset" in entry:
        tracker.log_dataset(**entry["dataset"])
    if "artifact" in entry:
        kept = entry["artifact"]
        _log_artifact(tracker, Path(kept["path"]), kept.get("folder"), folder, former)


def _log_artifact(
    tracker: MlflowTracker, path: Path, place: str | None, folder: Path, former: Path
) -> None:
    """Send a file of the run's own folder, which may have been moved since."""
    if path.is_relative_to(former):
        path = folder / path.relative_to(former)
    if place is not None and not re.fullmatch(r"\w+", place):
        logger.warning("%s is not sent: %r is no folder for it", path, place)
    elif reason := _reason_against(path, folder):
        logger.warning("%s %s", path, reason)
    else:
        tracker.log_artifact(path, place)


def _reason_against(path: Path, folder: Path) -> str | None:
    """Say why a file is not sent; None if it is a whole file of a run's own folder."""
    if not os.path.exists(path):
        return "is gone and cannot be delivered"
    if not (os.path.isfile(path) and _real(path).is_relative_to(_real(folder))):
        return f"is not sent: it is no file of {folder}"
    status = path.stat()
    if status.st_nlink > 1:
        return f"is not sent: it is one of {status.st_nlink} names of a file"
    held = getattr(status, "st_blocks", status.st_size) * BLOCK_BYTES
    if status.st_size - held > MOST_MISSING_BYTES:
        return f"is not sent: it claims {status.st_size} bytes, of which the disk holds {held}"
    return None


def _real(path: Path) -> Path:
    """Follow all links; Path.resolve fails at one that leads to itself."""
    return Path(os.path.realpath(path))


def _with_own_lock(baseline: Baseline, folder: Path) -> Baseline:
    """Take the lock that a run names only if it is one of the dense networks of this folder."""
    here = _real(Path.cwd())
    is_own = baseline.lock.name == f"{baseline.key}.baseline.lock"
    if not re.fullmatch(r"\w+", baseline.key):
        raise ValueError(f"{baseline.key!r} names no dense network")
    if is_own and _real(baseline.lock).is_relative_to(here):
        return baseline
    return replace(baseline, lock=folder / "baseline.lock")
