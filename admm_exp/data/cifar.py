"""CIFAR-10 and CIFAR-100, in torchvision's on-disk format, held in memory."""

import tarfile
from dataclasses import dataclass
from typing import Any

import torch

from admm_exp.data.arguments import arguments_of
from admm_exp.data.augment import Augmentation
from admm_exp.data.dataset import Dataset
from admm_exp.data.in_memory import Samples, carve, in_memory_dataset
from admm_exp.errors import DataError


@dataclass(frozen=True)
class CifarSource:
    """One of the two: torchvision's class, number of classes, mean and std of the pixels."""

    name: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


CIFAR10 = CifarSource("CIFAR10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = CifarSource("CIFAR100", 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def _cifar(
    source: CifarSource,
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
    """Build one of the two; arguments and errors as `cifar10` says."""
    return in_memory_dataset(
        name=source.name.lower(),
        splits=carve(
            *(_read(source.name, root, download, train=is_train) for is_train in (True, False)),
            train_images=train_images,
            val_fraction=val_fraction,
            split_seed=split_seed,
        ),
        num_classes=source.num_classes,
        mean=source.mean,
        std=source.std,
        augment=Augmentation(crop_padding, flip),
        batch_size=batch_size,
        seed=seed,
        img_size=img_size,
    )


@arguments_of(_cifar)
def cifar10(**arguments: Any) -> Dataset:
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
    return _cifar(CIFAR10, **arguments)


@arguments_of(_cifar)
def cifar100(**arguments: Any) -> Dataset:
    """Build CIFAR-100 with its 100 fine labels; arguments and errors as in `cifar10`."""
    return _cifar(CIFAR100, **arguments)


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
