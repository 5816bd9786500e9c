"""A tracker whose store is spoken with by a process beside the training."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import has_server, without_password
from admm_exp.tracking.journal import Journal, ending_entries
from admm_exp.tracking.owner import owner_tags
from admm_exp.tracking.recording import LOST_END, OpenedRun, RecordingTracker
from admm_exp.tracking.tracker import RunStatus

RARELY = 10_000
"""New objects after which Python looks for garbage, not 700: imports make a million that stay."""
START = (
    "import gc, sys; gc.set_threshold({}); "
    "sys.path.append(sys.argv[1]); from {} import main; main()"
)
SERVER = "admm_exp.tracking.store_process"
LAST_SECONDS = 15.0
OPEN_SECONDS = 120.0
"""How long a server may take until the run has begun; one may answer a byte a second for ever."""

logger = logging.getLogger(__name__)


def command_of(module: str) -> list[str]:
    """Make the command of a process that runs a module's `main`, wherever it is started.

    Without -P a module of the current folder would be imported in place of a library's.
    """
    root = str(Path(__file__).parents[2])
    return [sys.executable, "-P", "-c", START.format(RARELY, module), root]


class StoreProcess:
    """Loads MLflow and makes a missing database while this process does other things.

    Nothing is written to the store, and no server is asked, before `open`.

    Args:
        tracking_uri: Where MLflow keeps runs.
        artifact_root: Folder for artifacts.
    """

    def __init__(self, tracking_uri: str, artifact_root: Path) -> None:
        self._process = subprocess.Popen(
            command_of(SERVER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches the training alone, which tells its end
        )
        self._answers: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._is_open = False
        self._listener = threading.Thread(target=self._listen, name="store", daemon=True)
        self._listener.start()
        # made last: from here on the process removes it if this one is killed
        self._folder = TemporaryDirectory(prefix="admm-exp-", ignore_cleanup_errors=True)
        self.tell({"prepare": [tracking_uri, str(artifact_root.absolute()), self._folder.name]})

    def __enter__(self) -> Self:
        """Keep it until the run is over."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it; what it was told is sent first."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(LAST_SECONDS if self._is_open else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._process.stdout.close()
        self._folder.cleanup()

    def open(
        self,
        tracking_uri: str,
        experiment_name: str,
        run_name: str,
        artifact_root: Path,
        journal: Path,
        *,
        tags: Mapping[str, str],
        parent_run_id: str | None = None,
        run_id: str | None = None,
    ) -> "ProcessTracker":
        """Start an MLflow run, or go on with one, as `open_tracker` does.

        Raises:
            TrackingError: The store cannot be reached or used, or has no such run.
        """
        self._is_open = True
        seconds = OPEN_SECONDS if has_server(tracking_uri) else None
        answer = self.ask(
            {
                "open": {
                    "tracking_uri": tracking_uri,
                    "experiment_name": experiment_name,
                    "run_name": run_name,
                    "artifact_root": str(artifact_root.absolute()),
                    "journal": str(journal.absolute()),
                    "tags": owner_tags() | dict(tags),
                    "parent_run_id": parent_run_id,
                    "run_id": run_id,
                }
            },
            seconds,
        )
        if answer is None:
            raise TrackingError(
                "the process that speaks with MLflow ended before the run began: see what it wrote "
                "above, or run with tracking=none"
            )
        if "refused" in answer:
            raise TrackingError(answer["refused"])
        points = [(key, step) for key, step in answer["points"]]
        return ProcessTracker(self, OpenedRun(*answer["opened"]), Journal(journal), points)

    def tell(self, message: Mapping[str, Any]) -> bool:
        """Send a message; False if nobody takes it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # it has died, or has been ended
            return False
        return True

    def ask(
        self, message: Mapping[str, Any], seconds: float | None = None
    ) -> dict[str, Any] | None:
        """Send a message and wait for the answer; None if the process is gone.

        Args:
            message: What is asked.
            seconds: How long to wait; the process is ended after that.
        """
        if not self.tell(message):
            return None
        try:
            return self._answers.get(timeout=seconds)
        except Empty:
            self._process.kill()
            return {
                "refused": f"tracking_uri has answered, but come to no end in {seconds:g} s: try "
                "later, set another tracking_uri, or run with tracking=none"
            }

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "log" in message:
                name, level, text = message["log"]
                logging.getLogger(name).log(level, "%s", text)
            else:
                self._answers.put(message)
        self._answers.put(None)


class ProcessTracker(RecordingTracker):
    """A tracker that waits for nothing but the end: a process sends what the journal file has."""

    def __init__(
        self,
        process: StoreProcess,
        run: OpenedRun,
        journal: Journal,
        known_points: Iterable[tuple[str, int]],
    ) -> None:
        super().__init__(run, journal, known_points)
        self._process = process
        self._is_lost = self._is_finished = False

    def take(self, entry: Mapping[str, Any]) -> None:
        """Hand an entry over."""
        if "artifact" in entry:
            kept = entry["artifact"]
            entry = {"artifact": kept | {"path": os.path.abspath(kept["path"])}}
        self._tell({"entry": entry})

    def flush(self) -> None:
        """Let what is buffered be sent."""
        self._tell({"flush": True})

    def finish(self, status: RunStatus, error: str | None = None) -> None:
        """Let the rest be sent and the status be set, and wait for it."""
        if self._is_finished:
            return
        self._is_finished = True
        if self._process.ask({"finish": [status, error]}) is None:
            for entry in ending_entries(status, error):
                self.journal.append(entry)
            address = without_password(str(self.tracking_uri))
            logger.warning(LOST_END, address, "its process is gone", self.journal.path)

    def _tell(self, message: Mapping[str, Any]) -> None:
        if not self._process.tell(message) and not self._is_lost:
            self._is_lost = True
            logger.warning(
                "the process that speaks with MLflow is gone: training goes on, and what it should "
                "send is kept in %s, deliver it with admm-exp-sync",
                self.journal.path,
            )
