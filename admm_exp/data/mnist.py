"""MNIST, Fashion-MNIST and KMNIST, from their four IDX files, held in memory."""

from __future__ import annotations

from typing import Any

from admm_exp.data.arguments import arguments_of
from admm_exp.data.augment import Augmentation
from admm_exp.data.dataset import Dataset
from admm_exp.data.idx import FILES, NUM_CLASSES, IdxSource, find_files, read_part
from admm_exp.data.in_memory import carve, in_memory_dataset
from admm_exp.errors import DataError

MNIST = IdxSource("mnist", "MNIST", 0.1307, 0.3081)
FASHION_MNIST = IdxSource(
    *("fashion_mnist", "FashionMNIST", 0.2860, 0.3530),
    package="dataset-fashion-mnist",
    packaged="/usr/share/datasets/fashion-mnist",
)
KMNIST = IdxSource("kmnist", "KMNIST", 0.1918, 0.3483)


def _idx_dataset(
    source: IdxSource,
    *,
    root: str | None,
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
    """Build a data set of four IDX files; arguments and errors as `mnist` says."""
    folder = find_files(source, root, download)
    train, test = (read_part(source, folder, part) for part in FILES)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{source.name} in {folder} is damaged: training images are "
            f"{tuple(train[0].shape[2:])} pixels, test images {tuple(test[0].shape[2:])}"
        )
    return in_memory_dataset(
        name=source.name,
        splits=carve(
            *(train, test),
            train_images=train_images,
            val_fraction=val_fraction,
            split_seed=split_seed,
        ),
        num_classes=NUM_CLASSES,
        mean=(source.mean,),
        std=(source.std,),
        augment=Augmentation(crop_padding, flip),
        batch_size=batch_size,
        seed=seed,
        img_size=img_size,
    )


@arguments_of(_idx_dataset)
def mnist(**arguments: Any) -> Dataset:
    """Build MNIST: 60000 training digits, less the validation part, and 10000 for testing.

    Args:
        root: Folder that holds the four files, or torchvision's `MNIST/raw`; None looks in
            outputs/data, then where Debian packages the data set.
        download: Fetch the files, into `root` or outputs/data, where they are not found.
        batch_size: Images a step, at least 1.
        seed: Of order and augmentation.
        val_fraction: Of the training images, in (0, 1).
        split_seed: Of that split and of `train_images`, apart from `seed` so that all runs share
            them.
        crop_padding: Pixels of zeros around an image before it is cropped again.
        flip: Mirror half of the training images.
        img_size: Side that the batches are resized to on the device; None leaves 28.
        train_images: How many of the training images there are, all classes alike, before the
            validation part is carved from them; None takes all.

    Raises:
        DataError: If the files are missing or damaged, or a value is out of range.

    References:
        LeCun et al. 1998, doi 10.1109/5.726791.
    """
    return _idx_dataset(MNIST, **arguments)


@arguments_of(_idx_dataset)
def fashion_mnist(**arguments: Any) -> Dataset:
    """Build Fashion-MNIST, ten kinds of clothes; arguments and errors as in `mnist`.

    References:
        Xiao et al. 2017, arXiv 1708.07747.
    """
    return _idx_dataset(FASHION_MNIST, **arguments)


@arguments_of(_idx_dataset)
def kmnist(**arguments: Any) -> Dataset:
    """Build KMNIST, ten cursive Japanese characters; arguments and errors as in `mnist`.

    References:
        Clanuwat et al. 2018, arXiv 1812.01718.
    """
    return _idx_dataset(KMNIST, **arguments)
