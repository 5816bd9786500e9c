"""Batches from loaders of any library: anything that can be iterated again and again."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from admm_exp.data.dataset import Dataset
from admm_exp.errors import DataError


class IterableBatches:
    """Batches of a loader without length, such as those of Hugging Face or WebDataset.

    The loader is passed through once to count its samples; if it has `set_epoch`, it is told the
    epoch, and the order of its samples is otherwise its own.

    Args:
        loader: Yields (inputs, labels), or mappings that hold them; every pass starts anew.
        keys: Names of inputs and labels in a mapping.

    Raises:
        DataError: If the loader is empty, can be iterated only once, or yields something else.
    """

    def __init__(self, loader: Iterable[Any], keys: tuple[str, str]) -> None:
        if iter(loader) is loader:
            raise DataError(
                f"a loader must start anew at every pass, got a {type(loader).__name__}, which "
                f"ends after the first: give an object whose __iter__ makes a new iterator"
            )
        self._loader = loader
        self._keys = keys
        self._device = torch.device("cpu")
        self.n_samples, self._n_batches = 0, 0
        content, seen = hashlib.sha256(), []
        for inputs, labels in self:
            seen.append(labels)
            self.n_samples += len(labels)
            self._n_batches += 1
            for tensor in (inputs, labels):
                content.update(tensor.contiguous().numpy().tobytes())
            self.shape = tuple(inputs.shape[1:])
        if not self.n_samples:
            raise DataError(f"a loader must yield batches, got an empty {type(loader).__name__}")
        is_classes = all(labels.ndim == 1 and labels.dtype == torch.int64 for labels in seen)
        self.labels = torch.cat(seen) if is_classes else None
        """Of all samples in the order of the first pass, if they are classes, int64 (N,)."""
        self.fingerprint = content.hexdigest()
        """Of the samples in the order of the first pass."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._loader:
            inputs, labels = self._pair(batch)
            yield inputs.to(self._device), labels.to(self._device)

    def __len__(self) -> int:
        return self._n_batches

    def to(self, device: torch.device | str) -> IterableBatches:
        """Return the same batches, yielded on `device`."""
        moved = copy.copy(self)
        moved._device = torch.device(device)
        return moved

    def set_epoch(self, epoch: int) -> None:
        """Tell the loader the epoch, if it wants to know."""
        tell = getattr(self._loader, "set_epoch", None)
        if tell is not None:
            tell(epoch)

    def shard(self, rank: int, world: int) -> IterableBatches:
        """Refuse: how a loader shares its samples is its own.

        Raises:
            DataError: Always.
        """
        raise DataError(
            f"loaders of your own are read by one process: trainer.devices must be 1, got {world}"
        )

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        if isinstance(batch, Mapping) and set(self._keys) <= set(batch):
            batch = [batch[key] for key in self._keys]
        if isinstance(batch, list | tuple) and len(batch) == 2:
            inputs, labels = batch
            if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
                return inputs, labels
        raise DataError(
            f"a loader must yield pairs of tensors, or mappings with {self._keys[0]!r} and "
            f"{self._keys[1]!r}, got {type(batch).__name__}"
        )


def iterable_dataset(
    *,
    name: str,
    train: Iterable[Any],
    val: Iterable[Any],
    test: Iterable[Any],
    num_classes: int,
    keys: tuple[str, str] = ("inputs", "labels"),
) -> Dataset:
    """Make a data set of three loaders.

    Args:
        name: Of the data set.
        train: Loader of batches to learn from, see `IterableBatches`.
        val: Loader of batches to choose by.
        test: Loader of batches to report.
        num_classes: Outputs of a network.
        keys: Names of inputs and labels where batches are mappings.

    Raises:
        DataError: If a loader is empty, can be iterated only once, or yields something else.
    """
    training, validation, testing = (IterableBatches(part, keys) for part in (train, val, test))
    text = f"{name} {training.n_samples} {validation.fingerprint} {testing.fingerprint}"
    return Dataset(
        name=name,
        train=training,
        val=validation,
        test=testing,
        num_classes=num_classes,
        shape=training.shape,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
    )
