"""Batches from loaders of any library: anything that can be iterated again and again.

A batch is a pair of inputs and targets, of tensors or of any structures, or it is whatever the
user's own functions understand.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from admm_exp.data.dataset import Dataset, first_of_pair
from admm_exp.data.structures import moved, samples_in, tensors_of
from admm_exp.errors import DataError


class IterableBatches:
    """Batches of a loader without length, such as those of Hugging Face or WebDataset.

    The loader is passed through once to count its samples; if it has `set_epoch`, it is told the
    epoch, and the order of its samples is otherwise its own.

    Args:
        loader: Yields (inputs, targets), or mappings that hold them; every pass starts anew.
        keys: Names of inputs and targets in a mapping.
        inputs_of: Batch -> what a network takes of it, where batches are neither; they are yielded
            as they are then.

    Raises:
        DataError: If the loader is empty, can be iterated only once, or yields something else.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        keys: tuple[str, str],
        inputs_of: Callable[[Any], Any] | None = None,
    ) -> None:
        if iter(loader) is loader:
            raise DataError(
                f"a loader must start anew at every pass, got a {type(loader).__name__}, which "
                f"ends after the first: give an object whose __iter__ makes a new iterator"
            )
        self._loader = loader
        self._keys = keys
        self._is_paired = inputs_of is None
        self.inputs_of: Callable[[Any], Any] = inputs_of or first_of_pair
        """Batch, as it is yielded -> what a network takes of it."""
        self.example: Any = None
        """Inputs of the last batch, where they are no single tensor or batches are no pairs."""
        self._device = torch.device("cpu")
        self.n_samples, self._n_batches = 0, 0
        self.shape: tuple[int, ...] = ()
        """Of the first tensor that a network takes, without the samples."""
        content, seen = hashlib.sha256(), []
        for batch in self:
            seen.append(batch[1] if self._is_paired else None)
            self._n_batches += 1
            for tensor in tensors_of(batch):
                content.update(tensor.contiguous().numpy().tobytes())
            self._look_at(self.inputs_of(batch))
        if not self.n_samples:
            raise DataError(f"a loader must yield batches, got an empty {type(loader).__name__}")
        classes = [
            t for t in seen if isinstance(t, Tensor) and t.ndim == 1 and t.dtype == torch.int64
        ]
        self.labels = torch.cat(classes) if len(classes) == len(seen) else None
        """Of all samples in the order of the first pass, if they are classes, int64 (N,)."""
        self.fingerprint = content.hexdigest()
        """Of the samples in the order of the first pass."""

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield moved(self._pair(batch) if self._is_paired else batch, self._device)

    def __len__(self) -> int:
        return self._n_batches

    def to(self, device: torch.device | str) -> IterableBatches:
        """Return the same batches, yielded on `device`."""
        twin = copy.copy(self)
        twin._device = torch.device(device)
        return twin

    def set_epoch(self, epoch: int) -> None:
        """Tell the loader the epoch, if it wants to know."""
        tell = getattr(self._loader, "set_epoch", None)
        if tell is not None:
            tell(epoch)

    def in_parts(self, parts: int) -> IterableBatches:
        """Refuse: where a loader begins is its own.

        Raises:
            DataError: Always.
        """
        raise DataError(
            f"an epoch of a loader of your own is a whole pass: schedule.epoch_parts must be 1, "
            f"got {parts}"
        )

    def shard(self, rank: int, world: int) -> IterableBatches:
        """Refuse: how a loader shares its samples is its own.

        Raises:
            DataError: Always.
        """
        raise DataError(
            f"loaders of your own are read by one process: trainer.devices must be 1, got {world}"
        )

    def _look_at(self, inputs: Any) -> None:
        tensors = tensors_of(inputs)
        if not tensors:
            raise DataError(
                f"a network must be given a tensor, or something that holds one, got "
                f"{type(inputs).__name__}"
            )
        self.n_samples += samples_in(inputs)
        is_list = isinstance(inputs, list)  # one sample an entry
        self.shape = tuple(tensors[0].shape[0 if is_list else 1 :])
        self.example = None if isinstance(inputs, Tensor) and self._is_paired else inputs

    def _pair(self, batch: Any) -> tuple[Any, Any]:
        if isinstance(batch, Mapping) and set(self._keys) <= set(batch):
            batch = [batch[key] for key in self._keys]
        if isinstance(batch, list | tuple) and len(batch) == 2 and tensors_of(batch[0]):
            return batch[0], batch[1]
        raise DataError(
            f"a loader must yield pairs of inputs and targets, or mappings with "
            f"{self._keys[0]!r} and {self._keys[1]!r}, or be given with inputs_of, which says "
            f"what a network takes of a batch; got {type(batch).__name__}"
        )


def _is_classes(labels: Tensor) -> bool:
    return labels.ndim == 1 and labels.dtype == torch.int64


def iterable_dataset(
    *,
    name: str,
    train: Iterable[Any],
    val: Iterable[Any],
    test: Iterable[Any],
    num_classes: int = 0,
    keys: tuple[str, str] = ("inputs", "labels"),
    inputs_of: Callable[[Any], Any] | None = None,
) -> Dataset:
    """Make a data set of three loaders.

    Args:
        name: Of the data set.
        train: Loader of batches to learn from, see `IterableBatches`.
        val: Loader of batches to choose by.
        test: Loader of batches to report.
        num_classes: Outputs of a network; 0 where that is no number of classes.
        keys: Names of inputs and targets where batches are mappings.
        inputs_of: Batch -> what a network takes of it, where batches are neither pairs nor such
            mappings: a tensor, a tuple of positional or a dict of keyword arguments, a list.

    Raises:
        DataError: If a loader is empty, can be iterated only once, or yields something else.
    """
    training, validation, testing = (
        IterableBatches(part, keys, inputs_of) for part in (train, val, test)
    )
    text = f"{name} {training.n_samples} {validation.fingerprint} {testing.fingerprint}"
    return Dataset(
        name=name,
        train=training,
        val=validation,
        test=testing,
        num_classes=num_classes,
        shape=training.shape,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
        inputs_of=training.inputs_of,
        example=training.example,
    )
