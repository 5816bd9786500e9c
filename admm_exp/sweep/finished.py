"""Finished runs on this machine, whose results may stand for jobs of a sweep."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from admm_exp.results import REPORT, read_json

logger = logging.getLogger(__name__)
HEAD_BYTES = 512
HASH = re.compile(rb'"config_hash": "(\w+)"')


class FinishedReports:
    """The reports of finished runs by configuration hash.

    Of ten thousand reports only those are read whole whose hash is asked for: all name theirs in
    their first line.

    Args:
        folders: Folders of runs.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._paths: dict[str, list[tuple[float, Path]]] = {}
        for folder in folders:
            path = folder / REPORT
            if not path.is_file():  # not finished; a pipe would be waited for
                continue
            try:
                with path.open("rb") as file:
                    key = HASH.search(file.read(HEAD_BYTES))
                    written = os.fstat(file.fileno()).st_mtime
            except OSError:  # gone meanwhile
                continue
            if key:
                self._paths.setdefault(key[1].decode(), []).append((written, path))

    def of(self, keys: Iterable[str]) -> Iterator["FinishedReport"]:
        """Yield the reports of these configurations, of each the oldest first.

        Args:
            keys: Configuration hashes.
        """
        for key in keys:
            for _, path in sorted(self._paths.get(key, [])):
                try:
                    report = read_json(path)
                    found = FinishedReport(report["config_hash"], report["mlflow"]["run_id"], path)
                    is_finished = report["status"] == "finished"
                except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                    logger.warning("%s is damaged (%s): its run is not reused", path, error)
                    continue
                if is_finished and found.config_hash == key:
                    yield found


@dataclass(frozen=True)
class FinishedReport:
    """A finished run.

    Args:
        config_hash: Names the runs that must have the same result.
        run_id: Its MLflow run; None if it was not tracked.
        path: Its report.json.
    """

    config_hash: str
    run_id: str | None
    path: Path
