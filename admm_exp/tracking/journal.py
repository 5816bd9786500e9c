"""The file next to a run that keeps all it tells MLflow, one JSON line an entry, in order.

It begins with the run that the entries belong to and ends with `delivered` once MLflow has them
all. Without that, `admm-exp-sync` delivers them.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, get_args

from admm_exp.errors import TrackingError
from admm_exp.tracking.tracker import Baseline, RunStatus

DELIVERED = "delivered"
MOST_BYTES = 2**30
"""Of a journal; a run of a million epochs writes less."""
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
TEXTS = {
    "run": ("tracking_uri", "run_id"),
    "tags": (),
    "params": (),
    "metrics": (),
    "artifact": ("path",),
    "dataset": ("name", "digest", "context"),
    "baseline": ("key", "lock", "name"),
}
"""What is a mapping in an entry, and which texts it must hold."""

logger = logging.getLogger(__name__)


class Journal:
    """Appends entries; a disk that takes none stops nothing.

    Args:
        path: The file; its folder is made. A line that a killed process left half is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_muted = False
        self._warned = False
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with path.open("rb+") as file:
                    file.truncate(whole)

    def append(self, entry: Mapping[str, object]) -> None:
        """Write one entry whole or not at all, unless muted; if that fails, warn once."""
        if self.is_muted:
            return
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            with suppress(OSError):  # half a line would spoil the one that comes when there is room
                os.truncate(self.path, size)
            if not self._warned:
                self._warned = True
                logger.warning(
                    "%s cannot be written (%s): training goes on, and what MLflow does not take "
                    "now is lost",
                    *(self.path, error.strerror or error),
                )


def origin_entry(tracking_uri: str, run_id: str) -> dict[str, object]:
    """Name the run that a file belongs to; it comes first."""
    return {"run": {"tracking_uri": tracking_uri, "run_id": run_id}}


def metrics_entry(step: int, timestamp_ms: int, metrics: Mapping[str, float]) -> dict[str, object]:
    """Keep metrics as strict JSON; NaN and infinities are the texts "nan", "inf", "-inf".

    Args:
        step: Position on the curve.
        timestamp_ms: Milliseconds since the epoch.
        metrics: Values at that step.
    """
    return {"step": step, "timestamp_ms": timestamp_ms, "metrics": _strict(metrics)}


def baseline_entry(baseline: Baseline) -> dict[str, object]:
    """Keep a baseline as strict JSON; `baseline_of` reads it."""
    facts = {"key": baseline.key, "lock": str(baseline.lock), "name": baseline.name}
    curves = [[step, _strict(metrics)] for step, metrics in baseline.curves]
    numbers = {"curves": curves, "final": _strict(baseline.final)}
    return {"baseline": facts | numbers | {"params": dict(baseline.params)}}


def baseline_of(entry: Mapping[str, Any]) -> Baseline:
    """Read what `baseline_entry` made.

    Raises:
        KeyError: The entry keeps no baseline.
    """
    kept = entry["baseline"]
    numbers = {
        "curves": [(int(step), _numbers(metrics)) for step, metrics in kept["curves"]],
        "final": _numbers(kept["final"]),
    }
    return Baseline(**kept | numbers | {"lock": Path(kept["lock"])})


def ending_entries(status: RunStatus, error: str | None) -> list[dict[str, Any]]:
    """Tell how a run ended, and with which error if with one."""
    told: list[dict[str, Any]] = [] if error is None else [{"tags": {"error": error}}]
    return [*told, {"status": status}]


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Read all entries; a last line that a killed process left half is none.

    Raises:
        TrackingError: The file is damaged.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise TrackingError(f"{path} is no file: remove it to go on without it")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise TrackingError(f"{path} must have at most {MOST_BYTES} bytes, got {size}")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    try:
        entries = [json.loads(line) for line in lines]
        for number, entry in enumerate(entries, start=1):
            _require_entry(number, entry)
    except DAMAGE as error:
        raise TrackingError(f"{path} is damaged ({error}): delete it to go on without it") from None
    return entries


def _require_entry(number: int, entry: Any) -> None:
    """Check that a line has the form of what this module and the tracker write.

    Raises:
        ValueError: It has not; other errors of a wrong type may come first.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"line {number} is no entry")
    for key, names in TEXTS.items():
        if key in entry and not (
            isinstance(entry[key], dict)
            and all(isinstance(entry[key].get(name), str) for name in names)
        ):
            raise ValueError(f"{key} in line {number} is no mapping with {', '.join(names)}")
    if entry.get("status", "FINISHED") not in get_args(RunStatus):
        raise ValueError(f"the status in line {number} is none")
    list(metrics_of([entry]))
    if "baseline" in entry:
        baseline_of(entry)


def metrics_of(
    entries: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[str, float, int, int]]:
    """Yield key, value, time in ms and step of every point."""
    for entry in entries:
        for key, value in entry.get("metrics", {}).items():
            yield str(key), float(value), int(entry["timestamp_ms"]), int(entry["step"])


class RecordedRun(NamedTuple):
    """The MLflow run that a journal tells of; the address holds no password."""

    tracking_uri: str
    run_id: str


def recorded_run(entries: list[dict[str, Any]]) -> RecordedRun | None:
    """Find the run that was opened; None if there was none."""
    found = next((entry["run"] for entry in entries if "run" in entry), None)
    return None if found is None else RecordedRun(str(found["tracking_uri"]), str(found["run_id"]))


def _strict(metrics: Mapping[str, float]) -> dict[str, float | str]:
    return {key: value if math.isfinite(value) else str(value) for key, value in metrics.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): float(value) for key, value in values.items()}
