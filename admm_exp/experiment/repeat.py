"""Whether two runs of the same settings have the same result."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from admm_exp.errors import CheckpointError
from admm_exp.report.run import read_report
from admm_exp.results import REPORT, WEIGHTS
from admm_exp.training.checkpoint import load_tensors

TIMES = ("seconds", "latency_ms", "latency_spread_ms")
RESULTS = ("models", "surgery", "admm", "layers", "history")
MACHINE = ("platform", "device", "device_name", "processes", "threads")
ORIGIN = ("packages", "python", *MACHINE, "commit")


def compare_runs(first: Path, second: Path) -> list[str]:
    """Compare the weights and the reports of two runs, times left out.

    Args:
        first: Folder of a finished run.
        second: Folder of a finished run with the same settings.

    Returns:
        Lines for a person: the verdict, where the results differ, how the circumstances do.

    Raises:
        CheckpointError: If a result is missing or damaged.
    """
    before, now = _report(first), _report(second)
    lines = [
        *_different_weights(first, second),
        *_differences({k: before[k] for k in RESULTS}, {k: now[k] for k in RESULTS}),
    ]
    verdict = "differs from" if lines else "is identical to"
    origins = [{k: report["environment"].get(k) for k in ORIGIN} for report in (before, now)]
    changed = [
        f"warning: not the same then and now: {line}"
        for line in _differences(origins[0], origins[1])
    ]
    return [
        f"{second} {verdict} {first}",
        *lines[:10],
        *([f"... and {len(lines) - 10} more"] if len(lines) > 10 else []),
        *changed,
    ]


def require_comparable(folder: Path) -> None:
    """Check that a result can be read, before it is computed anew.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    _report(folder)
    load_tensors(folder / WEIGHTS)


def _report(folder: Path) -> dict[str, Any]:
    report = read_report(folder, {})  # whatever it holds is compared
    try:
        return {key: report[key] for key in (*RESULTS, "environment")}
    except KeyError as error:
        raise CheckpointError(f"{folder / REPORT} is damaged ({error} is missing)") from None


def _different_weights(first: Path, second: Path) -> Iterator[str]:
    left, right = load_tensors(first / WEIGHTS), load_tensors(second / WEIGHTS)
    for name in sorted(left.keys() | right.keys()):
        a, b = left.get(name), right.get(name)
        if a is None or b is None or a.shape != b.shape:
            yield f"weight {name}: another shape"
        elif not torch.equal(a, b):
            gap = float((a.double() - b.double()).abs().max())
            yield f"weight {name}: differs by up to {gap:g}"


def _differences(first: Any, second: Any, path: str = "") -> Iterator[str]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in [*first, *(key for key in second if key not in first)]:
            if key not in TIMES:
                yield from _differences(first.get(key), second.get(key), f"{path}.{key}".strip("."))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from _differences(*pair, f"{path}[{index}]")
    elif first != second:
        yield f"{path}: {first} and {second}"
