"""CIFAR-10 and CIFAR-100, in torchvision's on-disk format, held in memory."""

import tarfile
from typing import Any

import torch

from admm_exp.data.augment import Augmentation
from admm_exp.data.dataset import Dataset
from admm_exp.data.in_memory import Samples, Splits, in_memory_dataset
from admm_exp.data.split import stratified_part, stratified_split
from admm_exp.errors import DataError

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


def cifar10(
    *,
    root: str,
    download: bool,
    batch_size: int,
    seed: int,
    val_fraction: float,
    split_seed: int,
    crop_padding: int,
    flip: bool,
    img_size: int | None,
    train_images: int | None = None,
) -> Dataset:
    """Build CIFAR-10: 50000 training images, less the validation part, and 10000 test images.

    Args:
        root: Folder that holds, or will hold, `cifar-10-batches-py`.
        download: Fetch the archive into `root` if it is not there.
        seed: Of order and augmentation.
        val_fraction: Of the training images, in (0, 1).
        split_seed: Of that split, apart from `seed` so that all runs share it.
        crop_padding: Pixels of zeros around an image before it is cropped again.
        flip: Mirror half of the training images.
        img_size: Side that the batches are resized to on the device, after augmentation, so that
            memory stays at 32x32; None leaves 32.
        train_images: Images for training and validation together, all classes in their
            proportions; None takes all 50000.

    Raises:
        DataError: If the data is missing or damaged, or a value is out of range.

    References:
        Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    return in_memory_dataset(
        name="cifar10",
        splits=_split(
            _read_both("CIFAR10", root, download), val_fraction, split_seed, train_images
        ),
        num_classes=10,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        augment=Augmentation(crop_padding, flip),
        batch_size=batch_size,
        seed=seed,
        img_size=img_size,
    )


def cifar100(
    *,
    root: str,
    download: bool,
    batch_size: int,
    seed: int,
    val_fraction: float,
    split_seed: int,
    crop_padding: int,
    flip: bool,
    img_size: int | None,
    train_images: int | None = None,
) -> Dataset:
    """Build CIFAR-100 with its 100 fine labels; arguments and errors as in `cifar10`."""
    return in_memory_dataset(
        name="cifar100",
        splits=_split(
            _read_both("CIFAR100", root, download), val_fraction, split_seed, train_images
        ),
        num_classes=100,
        mean=CIFAR100_MEAN,
        std=CIFAR100_STD,
        augment=Augmentation(crop_padding, flip),
        batch_size=batch_size,
        seed=seed,
        img_size=img_size,
    )


def _read_both(source: str, root: str, download: bool) -> tuple[Samples, Samples]:
    """Read training and test samples of torchvision's data set `source`."""
    return _read(source, root, download, train=True), _read(source, root, download, train=False)


def _split(
    parts: tuple[Samples, Samples], val_fraction: float, split_seed: int, train_images: int | None
) -> Splits:
    """Carve the validation samples from the training images that are used."""
    (images, labels), test = parts
    chosen = stratified_part(labels, train_images, split_seed)
    train, val = stratified_split(labels[chosen], val_fraction, split_seed, key="val_fraction")
    train, val = chosen[train], chosen[val]
    return Splits((images[train], labels[train]), (images[val], labels[val]), test)


def _read(source: str, root: str, download: bool, train: bool) -> Samples:
    from torchvision import datasets

    cifar: Any = getattr(datasets, source)
    try:
        part = cifar(root, train=train, download=download)
    except (RuntimeError, OSError, EOFError, tarfile.TarError) as error:
        raise DataError(_mend(source.lower(), cifar.base_folder, root, download, error)) from error
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(part.targets)


def _mend(name: str, folder: str, root: str, download: bool, error: Exception) -> str:
    if download:
        return (
            f"{name} could not be downloaded to {root} ({error}): "
            f"run again with a network, or put {folder} there"
        )
    return (
        f"{name} was not found or is damaged in {root}: "
        f"run again with dataset.download=true, or put {folder} there"
    )
