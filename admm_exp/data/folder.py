"""ImageNet, and any tree of image files with one folder per class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from tarfile import TarError
from typing import Any

import torch

from admm_exp.data.arguments import arguments_of
from admm_exp.data.dataset import Dataset
from admm_exp.data.decoding import printable
from admm_exp.data.fingerprint import fingerprint
from admm_exp.data.image_files import ImageFiles, LabelledFiles
from admm_exp.data.image_transforms import MEAN, STD, SquareCrops
from admm_exp.data.loader import LoaderBatches
from admm_exp.data.places import place_of
from admm_exp.data.split import stratified_part, stratified_split
from admm_exp.errors import DataError

_IMAGENET_ERRORS = (RuntimeError, OSError, EOFError, KeyError, TarError, UnpicklingError)
"""What torchvision raises where archives, meta.bin or class folders are missing or damaged."""


@dataclass(frozen=True)
class Carving:
    """How the training images are chosen and the validation part is carved from them."""

    train_images: int | None
    val_fraction: float
    split_seed: int

    def part(self, files: LabelledFiles) -> LabelledFiles:
        """Take those that are used."""
        return files.select(stratified_part(files.labels, self.train_images, self.split_seed))

    def carve(self, files: LabelledFiles) -> tuple[LabelledFiles, LabelledFiles]:
        """Split into training and validation."""
        train, val = stratified_split(
            files.labels, self.val_fraction, self.split_seed, key="val_fraction"
        )
        return files.select(train), files.select(val)


Parts = tuple[LabelledFiles, LabelledFiles, LabelledFiles]
Read = Callable[[Path, Carving], tuple[Parts, int]]


def _image_files(
    name: str,
    read: Read,
    *,
    root: str,
    batch_size: int,
    seed: int,
    val_fraction: float,
    split_seed: int,
    img_size: int,
    min_area: float,
    crop_fraction: float,
    flip: bool,
    workers: int,
    train_images: int | None = None,
) -> Dataset:
    """Build a data set of image files; arguments and errors as `imagefolder` says.

    Args:
        name: Of the data set.
        read: Finds the files for training, validation and testing, and the number of classes.
    """
    carving = Carving(train_images, val_fraction, split_seed)
    parts, num_classes = read(place_of(root), carving)
    crops = SquareCrops(img_size, min_area, crop_fraction, flip)
    train = ImageFiles(parts[0], crops.for_training())
    val, test = (ImageFiles(files, crops.for_evaluation()) for files in parts[1:])
    return Dataset(
        name=name,
        train=LoaderBatches(
            train, batch_size, MEAN, STD, workers, shuffle=True, seed=seed, drop_last=True
        ),
        val=LoaderBatches(val, batch_size, MEAN, STD, workers),
        test=LoaderBatches(test, batch_size, MEAN, STD, workers),
        num_classes=num_classes,
        shape=(3, crops.img_size, crops.img_size),
        fingerprint=fingerprint(*(files.describe() for files in parts), f"{MEAN} {STD} {crops}"),
    )


@arguments_of(_image_files)
def imagefolder(**arguments: Any) -> Dataset:
    """Build a data set of root/train/<class>/*, root/val/<class>/* and root/test/<class>/*.

    With both val and test they are used as such. With one of them, that one is the test set and
    the validation set is carved from train, seen through the evaluation transform.

    Args:
        root: Folder that holds `train` and `val`, `test` or both, the same classes in each.
        seed: Of order and augmentation.
        val_fraction: Of the training images, in (0, 1); unused if val and test are both there.
        split_seed: Of that split, apart from `seed` so that all runs share it.
        img_size: Side of the square that the network sees, in pixels.
        min_area: Smallest share of an image's area that a training crop takes, in (0, 1].
        crop_fraction: Side of the evaluation crop over the resized short side, in (0, 1].
        flip: Mirror half of the training images.
        workers: Processes per set of batches that decode; 0 decodes in the main process.
        train_images: How many of the images in train are used, all classes in their proportions,
            before a validation set is carved from them; None uses all.

    Raises:
        DataError: If a folder is missing or empty, the classes differ, a file is empty or a value
            is out of range; while iterating, if a file cannot be decoded.
    """
    return _image_files("imagefolder", _trees, **arguments)


@arguments_of(_image_files)
def imagenet(**arguments: Any) -> Dataset:
    """Build ImageNet 2012 from torchvision's layout: root/train, root/val, root/meta.bin.

    Where those are missing, torchvision unpacks the three ILSVRC2012 archives in `root`. The
    official validation set is the test set here; the validation set is carved from train.
    Arguments and errors as in `imagefolder`.

    References:
        Russakovsky et al. 2015, arXiv 1409.0575.
    """
    return _image_files("imagenet", _imagenet, **arguments)


def _trees(folder: Path, carving: Carving) -> tuple[Parts, int]:
    train, classes = _read_tree(folder, "train")
    train = carving.part(train)
    present = [part for part in ("val", "test") if (folder / part).is_dir()]
    held_out = {part: _read_tree(folder, part) for part in present or ["val"]}
    for part, (_, part_classes) in held_out.items():
        _check_same_classes(folder, part, part_classes, classes)
    test = held_out[present[-1]][0]
    if len(present) == 2:
        return (train, held_out["val"][0], test), len(classes)
    return (*carving.carve(train), test), len(classes)


def _imagenet(folder: Path, carving: Carving) -> tuple[Parts, int]:
    train, classes = _read_imagenet(folder, "train")
    test, test_classes = _read_imagenet(folder, "val")
    _check_same_classes(folder, "val", test_classes, classes)
    return (*carving.carve(carving.part(train)), test), len(classes)


def _read_tree(root: Path, part: str) -> tuple[LabelledFiles, list[str]]:
    from torchvision.datasets import ImageFolder

    try:
        tree = ImageFolder(root / part, allow_empty=True)
    except FileNotFoundError as error:
        raise DataError(
            f"imagefolder found no class folders in {printable(root / part)}: put images in "
            f"{printable(root / part)}/<class>/, or set dataset.root to the folder that holds "
            f"train and val"
        ) from error
    except OSError as error:
        raise DataError(
            f"imagefolder cannot read {printable(root / part)} ({error.strerror}): "
            f"set dataset.root to the folder that holds train and val"
        ) from error
    return _labelled_files(root, part, tree, tree.classes)


def _read_imagenet(root: Path, part: str) -> tuple[LabelledFiles, list[str]]:
    from torchvision.datasets import ImageNet

    try:
        tree = ImageNet(root, split=part, allow_empty=True)
    except _IMAGENET_ERRORS as error:
        raise DataError(
            f"imagenet was not found or is damaged in {root}: put ILSVRC2012_devkit_t12.tar.gz, "
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar there, or set dataset.root"
        ) from error
    return _labelled_files(root, part, tree, tree.wnids)


def _labelled_files(
    root: Path, part: str, tree: Any, classes: list[str]
) -> tuple[LabelledFiles, list[str]]:
    empty = sorted(set(range(len(classes))) - set(tree.targets))
    if empty:
        raise DataError(
            f"{printable(root / part / classes[empty[0]])} holds no images: "
            "put JPEG or PNG files there, or delete the folder"
        )
    paths = [str(Path(path).relative_to(root)) for path, _ in tree.samples]
    return LabelledFiles(root, paths, torch.tensor(tree.targets)), classes


def _check_same_classes(root: Path, part: str, found: list[str], expected: list[str]) -> None:
    different = sorted(set(found) ^ set(expected))
    if different:
        raise DataError(
            f"{root / part} and {root / 'train'} must have the same class folders, "
            f"but only one of them has {', '.join(map(printable, different[:5]))}"
        )
