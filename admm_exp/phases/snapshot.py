"""A checkpoint on disk: one file with tensors and, in its header, what the run has done."""

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from admm_exp.admm.convergence import GroupResiduals
from admm_exp.errors import CheckpointError
from admm_exp.phases.progress import PhaseLog
from admm_exp.results import EpochRecord, IterationRecord, PhaseResult, write_atomically
from admm_exp.training.checkpoint import packed, unpacked

SUFFIX = ".safetensors"
KEPT = 2
DAMAGE = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The state of a run between two epochs.

    Args:
        number: Counts the checkpoints of a run.
        origin: What the run depends on; only a run with the same may go on from here.
        logs: What every phase has done by then.
        tensors: Networks, optimizer, ADMM state and generators, as `phase/kind/name`.
    """

    number: int
    origin: Mapping[str, str]
    logs: Mapping[str, PhaseLog]
    tensors: Mapping[str, Tensor]

    def part(self, phase: str, kind: str) -> dict[str, Tensor]:
        """Read the tensors of one kind that a phase left."""
        prefix = f"{phase}/{kind}/"
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write a checkpoint under its number and checksum, and keep it and the one before.

    Args:
        folder: Folder of the checkpoints.
        snapshot: The state.
    """
    write_packed(folder, snapshot.number, snapshot.tensors, header_of(snapshot))


def header_of(snapshot: Snapshot) -> dict[str, str]:
    """Write down what a checkpoint says beside its tensors."""
    logs = json.dumps(dict(snapshot.logs), default=vars)
    return {"origin": json.dumps(dict(snapshot.origin)), "logs": logs}


def write_packed(
    folder: Path, number: int, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> None:
    """Write a checkpoint whose header is written down already.

    Args:
        folder: Folder of the checkpoints.
        number: Of the checkpoint.
        tensors: Its tensors.
        header: What `header_of` made.
    """
    content = packed(tensors, header)
    name = f"{number:06d}-{zlib.crc32(content):08x}{SUFFIX}"
    write_atomically(folder / name, content)
    for path in _newest_first(folder)[KEPT:]:
        path.unlink(missing_ok=True)


def read_newest(folder: Path) -> Snapshot | None:
    """Read the newest checkpoint that is whole; damaged ones are named in a warning.

    Args:
        folder: Folder of the checkpoints.

    Returns:
        None if there is no checkpoint or all are damaged.
    """
    for path in _newest_first(folder):
        try:
            return _read(path)
        except CheckpointError as error:
            logger.warning("%s: going on from the one before", error)
    return None


def clear(folder: Path) -> None:
    """Remove the checkpoints of an earlier run and what a killed process left half written."""
    for path in folder.glob(f"*{SUFFIX}*"):
        path.unlink(missing_ok=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"[0-9]*-*{SUFFIX}"), reverse=True)


def _read(path: Path) -> Snapshot:
    try:
        content = path.read_bytes()
        number, _, checksum = path.name.removesuffix(SUFFIX).partition("-")
        if f"{zlib.crc32(content):08x}" != checksum:
            raise ValueError("its checksum differs")
        tensors, header = unpacked(content)
        origin = {str(key): str(value) for key, value in json.loads(header["origin"]).items()}
        logs = {str(key): _log(value) for key, value in json.loads(header["logs"]).items()}
        return Snapshot(int(number), origin, logs, tensors)
    except (*DAMAGE, OSError, MemoryError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged ({error})") from error


def _log(value: Mapping[str, Any]) -> PhaseLog:
    result = value["result"]
    return PhaseLog(
        [EpochRecord(**record) for record in value["epochs"]],
        [_iteration(record) for record in value["iterations"]],
        [str(message) for message in value["warnings"]],
        int(value["steps_per_epoch"]),
        float(value["seconds"]),
        None if result is None else PhaseResult(**result),
        value["choice"],
    )


def _iteration(record: Mapping[str, Any]) -> IterationRecord:
    groups = tuple(GroupResiduals(**group) for group in record["groups"])
    support = tuple(record.get("support", ()))
    return IterationRecord(**{**record, "groups": groups, "support": support})
