"""What the rest of the project knows of a data set: three sets of batches and a few facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from admm_exp.errors import DataError


class Batches(Protocol):
    """Batches of (images float32 (B, C, H, W), labels int64 (B,)) on one device."""

    n_samples: int
    """Samples in one pass; training drops its last partial batch and does not count it."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Self:
        """Return the same batches, yielded on `device`."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Fix order and augmentation of the next pass, a pure function of (seed, epoch)."""
        ...

    def in_parts(self, parts: int) -> Self:
        """Return batches of which an epoch is one of so many equal parts of a pass, in turn."""
        ...

    def shard(self, rank: int, world: int) -> Self:
        """Return what process `rank` of `world` has of every batch; `n_samples` counts all."""
        ...


def first_of_pair(batch: Any) -> Any:
    """Take the inputs of a batch of (inputs, targets)."""
    return batch[0]


@dataclass
class Dataset:
    """One data set, split, batched and preprocessed.

    Raises:
        DataError: If batches that know their `labels`, int64 (N,), have one outside the classes.
    """

    name: str
    train: Batches
    val: Batches
    test: Batches
    num_classes: int
    """Outputs of a network; 0 where that is no number of classes."""
    shape: tuple[int, ...]
    """(C, H, W) of one image as the network sees it, or the shape of another input."""
    fingerprint: str
    """Hex digest that changes when the images, labels, split or preprocessing change."""
    inputs_of: Callable[[Any], Any] = first_of_pair
    """Batch -> what a network takes of it."""
    example: Any = None
    """Inputs of a batch where they are no single tensor of `shape`, or batches are no pairs."""

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            labels = getattr(getattr(self, part), "labels", None)
            if isinstance(labels, Tensor) and labels.dtype == torch.int64:
                require_labels(self.name, part, labels, self.num_classes)

    def to(self, device: torch.device | str) -> Dataset:
        """Return the data set with all batches on `device`; data held in memory is moved once."""
        return dataclasses.replace(
            self,
            train=self.train.to(device),
            val=self.val.to(device),
            test=self.test.to(device),
        )

    def shard(self, rank: int, world: int) -> Dataset:
        """Return one process's part of every batch of a data set that several share.

        Args:
            rank: Number of the process, counted from 0.
            world: Number of processes.

        Raises:
            DataError: If a training batch cannot be shared evenly.
        """
        if world == 1:
            return self
        return dataclasses.replace(
            self,
            train=self.train.shard(rank, world),
            val=self.val.shard(rank, world),
            test=self.test.shard(rank, world),
        )

    def in_parts(self, parts: int) -> Dataset:
        """Return the data set with training epochs that are parts of a pass.

        Args:
            parts: How many make a pass.

        Raises:
            DataError: If a pass has fewer batches, or the training batches know no parts.
        """
        if parts == 1:
            return self
        if not hasattr(self.train, "in_parts"):
            kind = type(self.train).__name__
            raise DataError(
                f"schedule.epoch_parts must be 1 for {self.name}, got {parts}: its {kind} has no "
                f"method in_parts"
            )
        return dataclasses.replace(self, train=self.train.in_parts(parts))

    def pairs(self, n_batches: int) -> Iterator[tuple[Any, None]]:
        """Pass through the first training batches as pairs of inputs and nothing."""
        return ((self.inputs_of(batch), None) for batch in islice(self.train, n_batches))

    def set_epoch(self, epoch: int) -> None:
        """Fix order and augmentation of the next training pass, so that a resumed run repeats it.

        Args:
            epoch: Number of the epoch, counted from 0.
        """
        self.train.set_epoch(epoch)


MAX_SIDE = 2**13
"""Pixels of the longest side that images are resized to."""


def require_side(key: str, side: int, or_else: str = "") -> None:
    """Check the side of a square, in pixels.

    Args:
        key: What the user calls it.
        side: A whole number from 1 to `MAX_SIDE`.
        or_else: What else is allowed, such as `null or `.

    Raises:
        DataError: If it is anything else.
    """
    if isinstance(side, bool) or not isinstance(side, int):
        raise DataError(f"{key} must be {or_else}a whole number, got {side!r}")
    if side < 1:
        raise DataError(f"{key} must be {or_else}at least 1, got {side}")
    if side > MAX_SIDE:
        raise DataError(f"{key} must be {or_else}at most {MAX_SIDE}, got {side}")


def require_labels(name: str, part: str, labels: Tensor, num_classes: int) -> None:
    """Check that every label names a class.

    Args:
        name: Of the data set.
        part: Train, val or test.
        labels: int64 (N,).
        num_classes: Outputs of a network.

    Raises:
        DataError: If a label is negative or too large.
    """
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise DataError(
            f"labels must be in [0, {num_classes}), the classes of {name}, got {int(outside[0])} "
            f"in {part} ({len(outside)} of {len(labels)} samples)"
        )


def require_even(batch_size: int, world: int) -> None:
    """Check that all processes get equally many samples of a training batch.

    Raises:
        DataError: If they do not.
    """
    if batch_size % world:
        raise DataError(
            f"batch_size must be a multiple of {world}, the number of processes that share a "
            f"batch, got {batch_size}"
        )


def samples_per_part(n_batches: int, batch_size: int, parts: int) -> int:
    """Return how many samples one of several equal parts of a pass yields, in whole batches.

    Raises:
        DataError: If a part would have no batch.
    """
    if n_batches < parts:
        raise DataError(
            f"schedule.epoch_parts must be at most {n_batches}, the number of training batches, "
            f"got {parts}"
        )
    return n_batches // parts * batch_size


def samples_per_pass(n: int, batch_size: int, drop_last: bool) -> int:
    """Return how many of `n` samples one pass yields in batches of `batch_size`.

    Raises:
        DataError: If batch_size is below 1, or if dropping the last partial batch leaves none.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    if not drop_last:
        return n
    if batch_size > n:
        raise DataError(
            f"batch_size must be at most {n}, the number of training samples, got {batch_size}"
        )
    return n - n % batch_size
