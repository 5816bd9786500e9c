"""What an experiment found: plain numbers as they stand in report.json, and the files of a run."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from admm_exp.admm.convergence import Residuals

REPORT, PAGE, FIGURES, LAYERS = "report.json", "report.md", "figures", "layers.yaml"
STRUCTURE, WEIGHTS = "model.json", "model.safetensors"
PROGRAM, ONNX = "model.pt2", "model.onnx"
CHECKPOINTS, JOURNAL, ERROR = "checkpoints", "metrics.jsonl", "error.txt"
"""Names of files and folders in the folder of a run."""
RUNS, ARTIFACTS, CACHE = "outputs/runs", "outputs/artifacts", "outputs/cache/dense"
REPORTS, DOWNLOADS, BENCH = "outputs/reports", "outputs/data", "outputs/bench"
"""What this package writes below the current folder; conf/ names the folders of runs and sweeps."""
MOST_BYTES = 2**28
"""Of a JSON file of a run; the report of a thousand layers has 1 MB."""


@dataclass(frozen=True)
class Evaluation:
    """Accuracy as a fraction in [0, 1] and mean loss a sample (None if unknown), over one split."""

    accuracy: float
    loss: float | None


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a phase; epochs count from 1 within the phase."""

    phase: str
    epoch: int
    lr: float
    train_loss: float | None
    val_accuracy: float
    val_loss: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class IterationRecord(Residuals):
    """One ADMM iteration, counted from 1: its residuals and two validation accuracies.

    They are that of W and that of its projection, both after the iteration. Batch norms of the
    projection are recalibrated if those of the cut network will be; the difference is then what
    a cut would cost now. `support` says which units of every group Z kept: hexadecimal digits,
    four units each, the first unit first; empty in networks with more than a picture could show.
    """

    iteration: int
    val_accuracy: float
    projected_val_accuracy: float
    support: tuple[str, ...] = ()


def hex_digits(kept: Sequence[bool]) -> str:
    """Write which units are kept, four a digit, the first unit first."""
    bits = "".join("1" if is_kept else "0" for is_kept in kept)
    digits = -(-len(bits) // 4)
    return f"{int(bits.ljust(4 * digits, '0'), 2):0{digits}x}"


def kept_units(digits: str, n_units: int) -> list[bool]:
    """Read what `hex_digits` wrote."""
    return [bit == "1" for bit in f"{int(digits, 16):0{4 * len(digits)}b}"[:n_units]]


@dataclass(frozen=True)
class Stopped:
    """What ended the ADMM phase: "budget", "residuals" or "support", after which iteration.

    `pull` is S, the sum of lr * rho / (1 - momentum) over all steps (in the proximal form of
    log(1 + that)): a weight that the task does not hold ends at exp(-S/2) of its size, 1 % at 9.2.
    None where the optimizer rescales the pull. `masked` counts the iterations at the end that kept
    the units to be removed at zero.
    """

    reason: str
    iteration: int
    epochs_saved: int
    pull: float | None = None
    masked: int = 0


@dataclass(frozen=True)
class PhaseResult:
    """How long a phase took; `epochs` are those trained now, 0 if the result was cached."""

    name: str
    seconds: float
    epochs: int
    cached: bool = False


@dataclass(frozen=True)
class LayerResult:
    """One channel group: `name` is its first producer, `tied` all producers of the group.

    With a finer granularity it is one layer, `unit` says what `channels` and `kept` count, and
    `unit_size` how many weights such a unit has. Of channels it says how many a unit holds: 1, or
    the width of an attention head. `macs` are those of its layers for one sample, `kept_macs` what
    the cut left of them; None if they were not counted.
    """

    name: str
    channels: int
    kept: int
    sparsity: float
    tied: tuple[str, ...]
    unit: str = "channels"
    unit_size: int = 1
    macs: int | None = None
    kept_macs: int | None = None


@dataclass
class History:
    """An observer that remembers everything."""

    epochs: list[EpochRecord] = field(default_factory=list)
    iterations: list[IterationRecord] = field(default_factory=list)
    phases: list[PhaseResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def phase_started(self, name: str, epochs: int) -> None:
        """Nothing to remember yet."""

    def epoch_finished(self, record: EpochRecord) -> None:
        """Remember an epoch."""
        self.epochs.append(record)

    def iteration_finished(self, record: IterationRecord) -> None:
        """Remember an ADMM iteration."""
        self.iterations.append(record)

    def phase_finished(self, result: PhaseResult) -> None:
        """Remember a phase."""
        self.phases.append(result)

    def warned(self, message: str) -> None:
        """Remember a warning."""
        self.warnings.append(message)


class Announcing(History):
    """A history that tells a library user what a person at a terminal would read."""

    def warned(self, message: str) -> None:
        """Remember a warning and issue it."""
        super().warned(message)
        warnings.warn(message, stacklevel=2)


def read_json(path: Path) -> Any:
    """Read a JSON file of a run, which may be someone else's; a pipe or a device has no end.

    Raises:
        OSError: If it is missing, or no file.
        ValueError: If it is damaged, or has more than `MOST_BYTES`.
    """
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see either the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # such as a full disk
        temporary.unlink(missing_ok=True)
        error.filename = str(path)  # a write names none
        raise


MOST = 10**30
"""Larger numbers, infinity and NaN are no result: no mean or axis can show them."""
NUMBER = "a number or null"
A_NUMBER = "a number"
NUMBER_OR_TEXT = "a number or a text"
POSITIVE = "a number above 0"
COUNT = "a whole number above 0"
TEXT = "a text"
TEXT_OR_NULL = "a text or null"
_PARTS = ("dataset", "model", "granularity", "metric", "method", "rho_policy", "schedule")
_NAMED: dict[str, Any] = {"name": TEXT}
_MODEL: dict[str, Any] = {
    "val_accuracy": NUMBER,
    "test_accuracy": A_NUMBER,
    "params": COUNT,
    "macs": COUNT,
    "flops": COUNT,
}
FORM: dict[str, Any] = {
    "status": TEXT,
    "config": dict.fromkeys(_PARTS, _NAMED)
    | {"seed": NUMBER, "sparsity": NUMBER, "rho": NUMBER_OR_TEXT},
    "models": dict.fromkeys(("dense", "pruned", "finetuned"), _MODEL),
    "admm": {
        "rho": POSITIVE,
        "iterations": [{"iteration": COUNT, "primal_residual": NUMBER, "dead_energy": NUMBER}],
    },
    "layers": [{"name": TEXT, "channels": COUNT, "kept": COUNT}],
    "mlflow": {"run_id": TEXT_OR_NULL},
}
"""What tables, sweeps and searches take from the report of a finished run."""


def require_form(value: Any, form: Any = FORM, where: str = "") -> None:
    """Check that a report holds what others take from it.

    Args:
        value: A report, or a part of one.
        form: A mapping of the keys it must have, a list with the form of all its items, or one of
            `NUMBER`, `COUNT`, `TEXT` and `TEXT_OR_NULL`.
        where: Dotted name of the part, for the message.

    Raises:
        ValueError: With the first thing that is wrong.
    """
    if isinstance(form, dict):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where or 'it'} is no mapping")
        for key, inner in form.items():
            name = f"{where}.{key}".strip(".")
            if key not in value:
                raise ValueError(f"{name} is missing")
            require_form(value[key], inner, name)
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} is no list")
        for index, item in enumerate(value):
            require_form(item, form[0], f"{where}[{index}]")
    elif not _is(value, form):
        raise ValueError(f"{where} must be {form}, got {value!r}")


def _is(value: Any, kind: str) -> bool:
    if kind == TEXT:
        return isinstance(value, str)
    if kind == TEXT_OR_NULL:
        return isinstance(value, str | None)
    if kind == COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST
    is_number = (
        isinstance(value, int | float) and not isinstance(value, bool) and -MOST < value < MOST
    )
    if kind in (A_NUMBER, POSITIVE):
        return is_number and (kind == A_NUMBER or value > 0)
    return is_number or (isinstance(value, str) if kind == NUMBER_OR_TEXT else value is None)
