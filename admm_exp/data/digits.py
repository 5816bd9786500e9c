"""Handwritten digits: 1797 grey 8x8 images that come with scikit-learn."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch

from admm_exp.data.augment import Augmentation
from admm_exp.data.dataset import Dataset
from admm_exp.data.in_memory import Samples, carve, in_memory_dataset
from admm_exp.data.split import stratified_split
from admm_exp.errors import DataError

MEAN, STD = (0.31,), (0.38,)
MAX_GREY = 16


def digits(
    *,
    batch_size: int,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    crop_padding: int,
    flip: bool,
    img_size: int | None = None,
    train_images: int | None = None,
) -> Dataset:
    """Build the digits data set, which needs no download.

    Args:
        seed: Of order and augmentation.
        val_fraction: Of what the test set leaves, in (0, 1).
        test_fraction: Of all 1797 images, in (0, 1).
        split_seed: Of both splits, apart from `seed` so that all runs share them.
        crop_padding: Pixels of zeros around an image before it is cropped again.
        flip: Mirror half of the training images.
        img_size: Side that the batches are resized to, in pixels; None leaves 8.
        train_images: Images for training and validation together, all classes in their
            proportions; None takes all that the test set leaves.

    Raises:
        DataError: If scikit-learn's file is missing or damaged, or a value is out of range.

    References:
        Alpaydin and Kaynak 1998, doi 10.24432/C50P49 (its test part, as scikit-learn ships it).
    """
    images, labels = read_digits()
    rest, test = stratified_split(labels, test_fraction, split_seed, key="test_fraction")
    return in_memory_dataset(
        name="digits",
        splits=carve(
            *((images[part], labels[part]) for part in (rest, test)),
            train_images=train_images,
            val_fraction=val_fraction,
            split_seed=split_seed,
        ),
        num_classes=10,
        mean=MEAN,
        std=STD,
        augment=Augmentation(crop_padding, flip),
        batch_size=batch_size,
        seed=seed,
        img_size=img_size,
    )


def read_digits() -> Samples:
    """Read scikit-learn's file without importing scikit-learn, which takes 100 times longer.

    Returns:
        Images uint8 (1797, 1, 8, 8), grey levels 0..16 scaled to 0..255, and labels int64 (1797,).

    Raises:
        DataError: If the file is missing or damaged.
    """
    path = _digits_file()
    try:
        with gzip.open(path, "rt") as file:
            rows = torch.from_numpy(np.loadtxt(file, delimiter=","))
        grey = rows[:, :64].reshape(-1, 1, 8, 8)
    except (OSError, EOFError, ValueError, RuntimeError) as error:
        raise DataError(
            f"digits could not be read from {path}: "
            "run `pip install --force-reinstall scikit-learn`"
        ) from error
    return (grey * 255 / MAX_GREY).round().to(torch.uint8), rows[:, 64].to(torch.int64)


def _digits_file() -> Path:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("digits comes with scikit-learn, which is missing: install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
