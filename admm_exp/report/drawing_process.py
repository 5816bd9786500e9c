"""Figures of a run, drawn by a process of their own while this one does something else."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from admm_exp.report.figures.run import draw_all
from admm_exp.tracking.process_tracker import command_of
from admm_exp.training.processes import usable_cores

SLOWEST_SECONDS = 60.0


@contextmanager
def drawn_meanwhile(
    report: Mapping[str, Any], folder: Path, *, is_drawn: bool = True
) -> Iterator[list[Path]]:
    """Draw every figure that the report has data for, while the body runs.

    Args:
        report: As `draw_all` takes it; what the body adds is not drawn.
        folder: Where the PNGs go.
        is_drawn: False draws nothing.

    Yields:
        The files written, after the body.
    """
    if not is_drawn:
        yield []
        return
    files: list[Path] = []
    # A process that has loaded matplotlib already is as fast alone.
    is_helped = "matplotlib" not in sys.modules and usable_cores() > 1
    process = _started(report, folder) if is_helped else None
    try:
        yield files
    except BaseException:
        if process is not None:
            process.kill()
            process.communicate()
        raise
    files += draw_all(report, folder) if process is None else _drawn_by(process, report, folder)


def main() -> None:
    """Draw the report that is read, and print the files."""
    asked = json.loads(sys.stdin.read())
    print(json.dumps([path.name for path in draw_all(asked["report"], Path(asked["folder"]))]))


def _started(report: Mapping[str, Any], folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        command_of(__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what goes wrong is told when it is drawn again
        encoding="utf-8",
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({"report": report, "folder": str(folder.absolute())}))
        process.stdin.close()
    except OSError:  # it has died
        process.kill()
    process.stdin = None
    return process


def _drawn_by(
    process: "subprocess.Popen[str]", report: Mapping[str, Any], folder: Path
) -> list[Path]:
    """Wait for the process; draw here what it did not."""
    try:
        names, _ = process.communicate(timeout=SLOWEST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    if process.returncode:
        return draw_all(report, folder)
    return [folder / name for name in json.loads(names)]
