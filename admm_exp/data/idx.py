"""IDX files, the format of MNIST and its kin: where they are, and what is in them."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from admm_exp.data.decoding import MAX_BYTES
from admm_exp.data.in_memory import Samples
from admm_exp.data.places import OTHER, is_file, place_of
from admm_exp.errors import DataError
from admm_exp.results import DOWNLOADS

NUM_CLASSES = 10
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Images and labels of both parts; each may end in .gz."""
UNSIGNED_BYTE = 0x08


@dataclass(frozen=True)
class IdxSource:
    """One data set of four IDX files.

    Args:
        name: As in `dataset=`.
        torchvision: Class of torchvision.datasets, which is the name of its folder too.
        mean: Of the training pixels, scaled to [0, 1].
        std: Of the same.
        package: Debian package that holds the files, if there is one.
        packaged: Folder where that package puts them.
    """

    name: str
    torchvision: str
    mean: float
    std: float
    package: str | None = None
    packaged: str | None = None


def read_idx(path: Path) -> Tensor:
    """Read one IDX file of unsigned bytes, gzipped if its name ends in .gz.

    Returns:
        uint8 tensor of the shape that the file states.

    Raises:
        DataError: If the file cannot be read, is no such file or is cut short.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            start = file.read(4)
            sizes = file.read(4 * start[3]) if len(start) == 4 else b""
            is_idx = len(start) == 4 and start[:3] == bytes([0, 0, UNSIGNED_BYTE])
            if not is_idx or len(sizes) != 4 * start[3]:
                raise DataError(
                    f"{path} is no IDX file of unsigned bytes: it begins with {start!r}"
                )
            shape = [int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4)]
            if prod(shape) > MAX_BYTES:
                raise DataError(f"{path} must hold at most {MAX_BYTES} bytes, not {tuple(shape)}")
            content = file.read(prod(shape) + 1)  # no more: a few bytes may unpack to gigabytes
    except PermissionError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) != prod(shape) or not content:
        found = f"{len(content)} bytes" if len(content) <= prod(shape) else "more bytes"
        raise DataError(
            f"{path} holds {found} where its header {tuple(shape)} asks for {prod(shape)}"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(shape)


def read_part(source: IdxSource, folder: Path, part: str) -> Samples:
    """Read images uint8 (N, 1, H, W) and labels int64 (N,) of one part."""
    try:
        images, labels = (read_idx(_file(folder, name)) for name in FILES[part])
        if images.ndim != 3 or images.shape[:1] != labels.shape or not len(labels):
            raise DataError(
                f"the {part} images are {tuple(images.shape)} and their labels "
                f"{tuple(labels.shape)}"
            )
        if int(labels.max()) >= NUM_CLASSES:
            raise DataError(
                f"the {part} labels must be in [0, {NUM_CLASSES}), got {int(labels.max())}"
            )
    except DataError as error:
        if isinstance(error.__cause__, PermissionError):
            raise DataError(f"{error}: let this user read it, or {OTHER}") from error
        raise DataError(f"{source.name} is damaged: {error}; {_mend(source, folder)}") from error
    return images.unsqueeze(1), labels.long()


def find_files(source: IdxSource, root: str | None, download: bool) -> Path:
    """Find the folder that holds all four files, or fetch them.

    Raises:
        DataError: If there is none, with the ways to get one.
    """
    given = [DOWNLOADS, source.packaged] if root is None else [root]
    folders = [place_of(place) for place in given if place]
    for folder in folders:
        for place in (folder, folder / source.torchvision / "raw"):
            if all(is_file(_file(place, name)) for names in FILES.values() for name in names):
                return place
    if download:
        return _download(source, folders[0])
    raise DataError(
        f"{source.name} was not found in {' or '.join(map(str, folders))}: "
        f"{_ways(source)}, or set dataset.root to the folder that holds "
        f"{FILES['train'][0]}[.gz] and the other three files"
    )


def _download(source: IdxSource, folder: Path) -> Path:
    from torchvision import datasets

    kind: Any = getattr(datasets, source.torchvision)
    try:
        kind(folder, download=True)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{source.name} could not be downloaded to {folder} ({error}): run again with a "
            f"network, or put the four files there"
        ) from error
    return folder / source.torchvision / "raw"


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if is_file(plain) else folder / f"{name}.gz"


def _ways(source: IdxSource) -> str:
    packaged = f" or `apt-get install {source.package}`" if source.package else ""
    return f"run again with dataset.download=true{packaged}"


def _mend(source: IdxSource, folder: Path) -> str:
    if source.packaged and folder == Path(source.packaged):
        return f"run `apt-get install --reinstall {source.package}`"
    return "delete it and run again with dataset.download=true"
