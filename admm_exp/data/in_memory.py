"""Batches from tensors in memory: gather, crop, flip and normalise a whole batch at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from admm_exp.data.augment import Augmentation, crop_and_flip, crop_windows, draw_shifts, pad
from admm_exp.data.dataset import (
    Dataset,
    require_even,
    require_side,
    samples_per_part,
    samples_per_pass,
)
from admm_exp.data.epoch_random import epoch_generator
from admm_exp.data.fingerprint import fingerprint
from admm_exp.data.normalise import Normalise, resize
from admm_exp.data.split import stratified_part, stratified_split

Samples = tuple[Tensor, Tensor]
"""Images uint8 (N, C, H, W) and labels int64 (N,)."""


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set."""

    train: Samples
    val: Samples
    test: Samples


def carve(
    samples: Samples,
    test: Samples,
    *,
    train_images: int | None,
    val_fraction: float,
    split_seed: int,
) -> Splits:
    """Take the training images that are used, and carve the validation part from them.

    Args:
        samples: All that may be trained with.
        test: Goes through.
        train_images: How many of the samples are used, all classes in their proportions; None for
            all.
        val_fraction: Of those, in (0, 1).
        split_seed: Of both choices.

    Raises:
        DataError: If a value is out of range.
    """
    images, labels = samples
    chosen = stratified_part(labels, train_images, split_seed)
    train, val = stratified_split(labels[chosen], val_fraction, split_seed, key="val_fraction")
    train, val = chosen[train], chosen[val]
    return Splits((images[train], labels[train]), (images[val], labels[val]), test)


class TensorBatches:
    """Batches of images held as uint8 on the device that yields them.

    All random numbers of an epoch are drawn once, on the CPU, from (seed, epoch): CPU and GPU see
    the same batches. Images are resized batch by batch after augmentation, so memory stays at the
    stored size.

    Args:
        images: (N, C, H, W) uint8; a padded copy is made once if the augmentation crops.
        labels: (N,) int64, on the same device.
        mean, std: C numbers each, of pixel values scaled to [0, 1].
        augment: Crops and flips, or None.
        shuffle: A new order every epoch.
        drop_last: Leave out the last batch of an epoch if it is not full.
        img_size: Side of the square that the images are resized to, in pixels, or None.

    Raises:
        DataError: If batch_size is below 1, or above N with drop_last, or img_size is no whole
            number from 1 to `MAX_SIDE`.
        ValueError: If images, labels, mean and std do not fit together.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        augment: Augmentation | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        img_size: int | None = None,
    ) -> None:
        _check_samples(images, labels, mean)
        if img_size is not None:
            require_side("img_size", img_size, "null or ")
        self.n_samples = samples_per_pass(len(images), batch_size, drop_last)
        self._augment = augment or Augmentation()
        self._size = images.shape[2:]
        self._padded = pad(images, self._augment.crop_padding)
        self._labels = labels
        self._normalise = Normalise(mean, std, images.device)
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._img_size = img_size
        self._epoch, self._parts = 0, 1
        self._drop_last = drop_last
        self._rank, self._world = 0, 1

    def __len__(self) -> int:
        return math.ceil(self.n_samples / self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n, device = len(self._labels), self._labels.device
        epoch, part = divmod(self._epoch, self._parts)
        generator = epoch_generator(self._seed, epoch)
        order = torch.randperm(n, generator=generator) if self._shuffle else torch.arange(n)
        order = order.to(device)
        shifts = draw_shifts(n, self._augment, generator).to(device)
        windows = crop_windows(self._padded, *self._size)
        begin, stop = part * self.n_samples, (part + 1) * self.n_samples
        for start in range(begin, stop, self._batch_size):
            first, end = start + self._rank, min(start + self._batch_size, stop)
            if first >= end:  # the last batch has fewer samples than there are processes
                return
            rows = slice(first, end, self._world)
            images = self._normalise(crop_and_flip(windows, order[rows], shifts[rows]))
            if self._img_size is not None:
                images = resize(images, self._img_size)
            yield images, self._labels[order[rows]]

    @property
    def labels(self) -> Tensor:
        """Return the labels of all samples, int64 (N,)."""
        return self._labels

    def shard(self, rank: int, world: int) -> TensorBatches:
        """Return batches that hold every `world`-th sample of these, from number `rank`."""
        if self._drop_last:
            require_even(self._batch_size, world)
        part = copy.copy(self)
        part._rank, part._world = rank, world
        return part

    def in_parts(self, parts: int) -> TensorBatches:
        """Return batches of which an epoch is one of so many equal parts of a pass, in turn."""
        twin = copy.copy(self)
        twin._parts = parts
        twin.n_samples = samples_per_part(len(self), self._batch_size, parts)
        return twin

    def to(self, device: torch.device | str) -> TensorBatches:
        """Return batches whose uint8 images and labels are on `device`."""
        moved = copy.copy(self)
        moved._padded = self._padded.to(device)
        moved._labels = self._labels.to(device)
        moved._normalise = self._normalise.to(device)
        return moved

    def set_epoch(self, epoch: int) -> None:
        """Fix order and augmentation of the next pass."""
        self._epoch = epoch


def in_memory_dataset(
    *,
    name: str,
    splits: Splits,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    augment: Augmentation,
    batch_size: int,
    seed: int,
    img_size: int | None,
) -> Dataset:
    """Make a data set of samples that fit in memory; only the training samples are augmented.

    Args:
        splits: Labels are in [0, num_classes).
        mean, std: C numbers each, of pixel values scaled to [0, 1].
        seed: Of order and augmentation.
        img_size: Side that the batches are resized to, in pixels, or None.

    Raises:
        DataError: If batch_size is not in [1, number of training samples] or img_size is no whole
            number from 1 to `MAX_SIDE`.
    """
    channels, height, width = splits.train[0].shape[1:]
    shape = (channels, img_size or height, img_size or width)
    train = TensorBatches(
        *splits.train,
        batch_size,
        mean,
        std,
        augment=augment,
        shuffle=True,
        seed=seed,
        drop_last=True,
        img_size=img_size,
    )
    return Dataset(
        name=name,
        train=train,
        val=TensorBatches(*splits.val, batch_size, mean, std, img_size=img_size),
        test=TensorBatches(*splits.test, batch_size, mean, std, img_size=img_size),
        num_classes=num_classes,
        shape=shape,
        fingerprint=fingerprint(
            *splits.train, *splits.val, *splits.test, f"{mean} {std} {augment} {shape}"
        ),
    )


def _check_samples(images: Tensor, labels: Tensor, mean: Sequence[float]) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != len(mean):
        raise ValueError(
            f"images must be uint8 (N, {len(mean)}, H, W) with as many channels as mean, "
            f"got {images.dtype} {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be int64 ({len(images)},), got {labels.dtype} {tuple(labels.shape)}"
        )
