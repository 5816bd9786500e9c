"""Files that a run gets after its end."""

import logging
from collections.abc import Sequence
from pathlib import Path

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import absolute_uri
from admm_exp.tracking.own_store import require_own_artifacts
from admm_exp.tracking.store import opened

logger = logging.getLogger(__name__)


def add_files(
    tracking_uri: str, run_id: str, files: Sequence[Path], folder: str | None = None
) -> None:
    """Copy files to the artifacts of a run that is over; a store that fails costs a warning.

    Args:
        tracking_uri: Where MLflow keeps the run.
        run_id: The run.
        files: What to copy.
        folder: Where it goes among the run's artifacts.
    """
    uri = absolute_uri(tracking_uri)
    try:
        with opened(uri, Path()) as client:
            require_own_artifacts(uri, run_id, client.get_run(run_id).info.artifact_uri)
            for path in files:
                client.log_artifact(run_id, str(path), folder)
    except TrackingError as error:
        logger.warning("%s did not reach MLflow: %s", ", ".join(map(str, files)), error)
