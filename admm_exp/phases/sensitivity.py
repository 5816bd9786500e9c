"""Sensitivity curves on disk, beside the dense network that they were measured on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from admm_exp.pruning.sensitivity import Curve
from admm_exp.training.checkpoint import write_atomically


def cached_curves(
    path: Path, names: Sequence[str], measure: Callable[[], Sequence[Curve]]
) -> tuple[Curve, ...]:
    """Read the curves, or measure them and write them there.

    Args:
        path: JSON file; one that is damaged or of other groups is measured anew.
        names: Of the groups, in order.
        measure: Measures a curve for every group.
    """
    try:
        rows = json.loads(path.read_text())
        curves = tuple(
            Curve(row["name"], tuple(row["sparsity"]), tuple(row["accuracy"])) for row in rows
        )
        if [curve.name for curve in curves] == list(names):
            return curves
    except (OSError, ValueError, KeyError, TypeError):
        pass
    curves = tuple(measure())
    write_atomically(path, json.dumps([asdict(curve) for curve in curves]).encode())
    return curves
