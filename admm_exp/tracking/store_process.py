"""The process that speaks with MLflow beside a training, which then need not import it.

It reads requests from its input, a JSON line each, and answers on its output:

    {"prepare": [tracking_uri, artifact_root, folder]}    import MLflow, fill the folder
    {"open": arguments of open_tracker}                   -> {"opened": [..]} or {"refused": text}
    {"entry": entry of a journal}                         send it
    {"flush": true}                                       send what is buffered
    {"finish": [status, error]}                           -> {"finished": true}

Warnings come as {"log": [logger, level, text]}. It ends with its input, whoever closed it.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import absolute_uri
from admm_exp.tracking.mlflow_tracker import MlflowTracker, open_tracker
from admm_exp.tracking.run_status import ENDING
from admm_exp.tracking.store import EMPTY, empty_database

Answer = Callable[[dict[str, Any]], object]
PATHS = ("artifact_root", "journal")


class LogLines(logging.Handler):
    """Hands log records to the process that shows them."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(logging.WARNING)
        self._answer = answer

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record as a line."""
        self._answer({"log": [record.name, record.levelno, record.getMessage()]})


def main() -> None:
    """Serve the process that started this one."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(message: dict[str, Any]) -> None:
        with suppress(OSError):  # nobody hears it; entries are sent all the same
            output.write(json.dumps(message) + "\n")
            output.flush()

    logging.basicConfig(handlers=[LogLines(answer)])
    serve(sys.stdin, answer)


def serve(requests: Iterable[str], answer: Answer) -> None:
    """Answer requests until there are no more.

    Args:
        requests: Lines.
        answer: Sends a message.
    """
    messages = (json.loads(line) for line in requests)
    tracking_uri, artifact_root, folder = next(messages)["prepare"]
    try:
        _answer(messages, _prepared(tracking_uri, Path(artifact_root), Path(folder)), answer)
    finally:
        _tidy(Path(folder))


def _answer(messages: Iterator[dict[str, Any]], empty: Path | None, answer: Answer) -> None:
    for message in messages:
        try:
            tracker = _opened(message["open"], empty)
        except TrackingError as error:
            answer({"refused": str(error)})
            return
        run = [tracker.run_id, tracker.experiment_id, tracker.tracking_uri]
        answer({"opened": run, "points": sorted(tracker.known_points)})
        _track(tracker, messages, answer)


def _prepared(tracking_uri: str, artifact_root: Path, folder: Path) -> Path | None:
    try:
        return empty_database(absolute_uri(tracking_uri), artifact_root, folder)
    except Exception:  # it is told when the run is opened
        return None


def _tidy(folder: Path) -> None:
    """Remove what was prepared: a training that was killed cannot."""
    with suppress(OSError):
        for path in folder.glob(f"{EMPTY}*"):
            path.unlink()
        folder.rmdir()


def _opened(asked: dict[str, Any], empty: Path | None) -> MlflowTracker:
    for number in ENDING:  # the training ends in order, and tells how
        signal.signal(number, signal.SIG_IGN)
    return open_tracker(**asked | {name: Path(asked[name]) for name in PATHS}, empty=empty)


def _track(tracker: MlflowTracker, messages: Iterator[dict[str, Any]], answer: Answer) -> None:
    for message in messages:
        if "entry" in message:
            tracker.take(message["entry"])
        elif "finish" in message:
            tracker.finish(*message["finish"])
            answer({"finished": True})
            return
        else:
            tracker.flush()
    tracker.flush()  # the training was killed


if __name__ == "__main__":
    main()
