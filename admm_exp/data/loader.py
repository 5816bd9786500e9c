"""Batches from samples that are read one by one, in worker processes if asked."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from admm_exp.data.dataset import require_even, samples_per_part, samples_per_pass
from admm_exp.data.epoch_random import epoch_generator
from admm_exp.data.normalise import Normalise
from admm_exp.errors import DataError

Ticket = tuple[int, int]
"""Index of a sample, and the seed of its augmentation in this epoch."""


class ImageSamples(Protocol):
    """Samples by index: (image uint8 (C, H, W), label), all of one size.

    Random transforms draw from torch's global generator. A sample that cannot be read raises
    `DataError`.
    """

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]: ...

    def __len__(self) -> int: ...


class LoaderBatches:
    """Batches of samples, read by `workers` processes, normalised on the device.

    Every sample carries its own seed, drawn from (seed, epoch) in the main process: batches are
    the same for any number of workers, and torch's global generator is left as it was.

    Args:
        samples: What to read; pickled into the workers where they are not forked.
        mean, std: C numbers each, of pixel values scaled to [0, 1].
        workers: Processes that read, at least 0; they live until the batches are deleted.
        shuffle: A new order every epoch.
        drop_last: Leave out the last batch of an epoch if it is not full.

    Raises:
        DataError: If workers is negative, or batch_size is below 1, or above the number of samples
            with drop_last; while iterating, if a sample cannot be read.
    """

    def __init__(
        self,
        samples: ImageSamples,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        workers: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if workers < 0:
            raise DataError(f"workers must be at least 0, got {workers}")
        if workers > (most := max(64, 4 * (os.cpu_count() or 1))):
            raise DataError(f"workers must be at most {most} on this machine, got {workers}")
        self.n_samples = samples_per_pass(len(samples), batch_size, drop_last)
        self.labels: Tensor | None = getattr(samples, "labels", None)
        """Of all samples, int64 (N,), if they are known without reading the samples."""
        self._sampler = _EpochBatches(len(samples), self.n_samples, batch_size, shuffle, seed)
        self._drop_last = drop_last
        self._options: dict[str, Any] = {
            "dataset": _Seeded(samples),
            "batch_sampler": self._sampler,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "collate_fn": _collate,
        }
        self._normalise = Normalise(mean, std)
        self._set_device(torch.device("cpu"))

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._loader:
            if isinstance(batch, _Unreadable):
                raise DataError(batch.text)
            images, labels = batch
            images = images.to(self._device, non_blocking=True)
            yield self._normalise(images), labels.to(self._device, non_blocking=True)

    def shard(self, rank: int, world: int) -> LoaderBatches:
        """Return batches that read every `world`-th sample of these alone, from number `rank`."""
        if self._drop_last:
            require_even(self._sampler.batch_size, world)
        part = self.to(self._device)
        part._sampler.rank, part._sampler.world = rank, world
        return part

    def in_parts(self, parts: int) -> LoaderBatches:
        """Return batches of which an epoch is one of so many equal parts of a pass, in turn."""
        twin = self.to(self._device)
        sampler = twin._sampler
        sampler.parts = parts
        sampler.n_used = samples_per_part(len(sampler), sampler.batch_size, parts)
        twin.n_samples = sampler.n_used
        return twin

    def to(self, device: torch.device | str) -> LoaderBatches:
        """Return batches that are moved to `device` one by one, as uint8."""
        moved = copy.copy(self)
        moved._sampler = copy.copy(self._sampler)
        moved._options = self._options | {"batch_sampler": moved._sampler}
        moved._set_device(torch.device(device))
        return moved

    def set_epoch(self, epoch: int) -> None:
        """Fix order and augmentation of the next pass."""
        self._sampler.epoch = epoch

    def _set_device(self, device: torch.device) -> None:
        self._device = device
        self._normalise = self._normalise.to(device)
        # its own generator: without one, each pass would take a number from the global generator
        self._loader = DataLoader(
            **self._options, generator=torch.Generator(), pin_memory=device.type == "cuda"
        )


class _EpochBatches(Sampler[list[Ticket]]):
    """The tickets of every batch, or those of one process among several."""

    def __init__(self, n: int, n_used: int, batch_size: int, shuffle: bool, seed: int) -> None:
        self.n = n
        self.n_used = n_used
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch, self.parts = 0, 1
        self.rank, self.world = 0, 1

    def __len__(self) -> int:
        return math.ceil(self.n_used / self.batch_size)

    def __iter__(self) -> Iterator[list[Ticket]]:
        epoch, part = divmod(self.epoch, self.parts)
        generator = epoch_generator(self.seed, epoch)
        order = torch.arange(self.n)
        if self.shuffle:
            order = torch.randperm(self.n, generator=generator)
        seeds = torch.randint(2**32, (self.n,), generator=generator)
        tickets = torch.stack((order, seeds), dim=1)  # Python objects batch by batch, not at once
        begin, stop = part * self.n_used, (part + 1) * self.n_used
        for start in range(begin, stop, self.batch_size):
            end = min(start + self.batch_size, stop)
            if own := tickets[start + self.rank : end : self.world].tolist():
                yield [(index, seed) for index, seed in own]


@dataclass(frozen=True)
class _Unreadable:
    """A sample that could not be read, as a value.

    An exception would reach the main process with the worker's traceback in its text, and one that
    a frame of its own traceback holds is a cycle: Python's cycle collector closes the queues of the
    workers in it first, then waits 5 s for each of them.
    """

    text: str


class _Seeded(torch.utils.data.Dataset[Any]):
    def __init__(self, samples: ImageSamples) -> None:
        self.samples = samples

    def __getitem__(self, ticket: Ticket) -> tuple[Tensor, int] | _Unreadable:
        index, seed = ticket
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                return self.samples[index]
            except DataError as error:
                return _Unreadable(str(error))


def _collate(samples: list[Any]) -> Any:
    unreadable = [sample for sample in samples if isinstance(sample, _Unreadable)]
    return unreadable[0] if unreadable else default_collate(samples)
