"""Following a sweep's jobs while a launcher has them."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from admm_exp.report.row import result_row
from admm_exp.report.run import read_report
from admm_exp.sweep.job import Job, Status, end_job, read_job
from admm_exp.sweep.terminal import SweepTerminal

POLL_SECONDS = 0.2
# Of thousands of jobs the looking itself takes a while; it may take a twentieth of the time.
PAUSES_PER_LOOK = 20


class Watch:
    """Follow the files of jobs and show what changes.

    Args:
        paths: The jobs' files.
        terminal: Where to show it.
    """

    def __init__(self, paths: Sequence[Path], terminal: SweepTerminal) -> None:
        self._terminal = terminal
        self._seen = {path: read_job(path) for path in paths}
        self._open: dict[Path, object] = dict.fromkeys(paths)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    @property
    def is_all_waiting(self) -> bool:
        """Say whether no job has begun."""
        return all(read_job(path).status == "waiting" for path in self._seen)

    def close(self, status: Status, error: str | None, *, is_told: bool = True) -> None:
        """End the jobs that will not end by themselves any more.

        Args:
            status: How they ended.
            error: One sentence, if they failed.
            is_told: Show every one of them.
        """
        if not is_told:  # first: the thread looks while the files are written
            self._open.clear()
        for path in self._seen:
            end_job(path, status, error)

    def _follow(self) -> None:
        pause_seconds = POLL_SECONDS
        while not self._stop.wait(pause_seconds):
            start = time.perf_counter()
            self._look()
            took = time.perf_counter() - start
            pause_seconds = max(POLL_SECONDS, PAUSES_PER_LOOK * took)

    def _look(self) -> None:
        """Read the files that changed, of jobs that were not over when they were last read."""
        for path, version in list(self._open.items()):
            found = _version(path)
            if found == version or path not in self._open:
                continue
            seen, job = self._seen[path], read_job(path)
            self._seen[path], self._open[path] = job, found
            for message in job.warnings[len(seen.warnings) :]:
                self._terminal.job_warned(job, message)
            if job.status != seen.status:
                self._terminal.job_changed(job, job_accuracy(job))
            if job.is_over:
                self._open.pop(path, None)


def _version(path: Path) -> object:
    """Tell versions of a file apart that is replaced whole: a new one is another file."""
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns


def job_row(job: Job) -> dict[str, Any]:
    """Return the result row of a job; without results it holds name, status, error and folder."""
    if job.status in ("finished", "reused"):
        assert job.run_dir is not None
        report = read_report(Path(job.run_dir))
        return result_row(report, job.name, job.run_dir) | {"status": job.status}
    return {"run_name": job.name, "status": job.status, "error": job.error, "run_dir": job.run_dir}


def job_accuracy(job: Job) -> float | None:
    """Return the test accuracy of a job's network, None if it has none."""
    if job.status not in ("finished", "reused"):
        return None
    return float(job_row(job)["accuracy"])
