"""Image files as samples: which files there are, how one is decoded and transformed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from admm_exp.errors import DataError


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their labels.

    Args:
        root: Folder that the paths are relative to.
        paths: One per image.
        labels: (N,) int64.
    """

    root: Path
    paths: list[str]
    labels: Tensor

    def select(self, index: Tensor) -> LabelledFiles:
        """Return the files at `index`, int64 (n,)."""
        return LabelledFiles(self.root, [self.paths[i] for i in index.tolist()], self.labels[index])

    def describe(self) -> str:
        """Return one line per file: label, path, size in bytes, time of change in ns.

        Reading every pixel of a large set would take longer than an epoch, so a file counts as
        changed when its size or its time of change differs.

        Raises:
            DataError: If a file is empty.
        """
        return "\n".join(map(self._describe_file, self.paths, self.labels.tolist()))

    def _describe_file(self, path: str, label: int) -> str:
        status = (self.root / path).stat()
        if status.st_size == 0:
            raise DataError(f"{self.root / path} is empty: replace or delete it")
        return f"{label} {path} {status.st_size} {status.st_mtime_ns}"


class ImageFiles:
    """Decoded and transformed images by index, as `LoaderBatches` reads them.

    Args:
        files: What to read.
        transform: (3, h, w) uint8 of any size to uint8 (3, H, W).
    """

    def __init__(self, files: LabelledFiles, transform: Callable[[Tensor], Tensor]) -> None:
        self._root = files.root
        self._paths = files.paths
        self._labels = files.labels
        self._transform = transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = decode_rgb(self._root / self._paths[index])
        return self._transform(image), int(self._labels[index])


def decode_rgb(path: Path) -> Tensor:
    """Decode an image file to uint8 (3, H, W).

    JPEG, PNG and WebP go through torchvision's own decoder, 1.6 times faster than Pillow; other
    formats, such as BMP and TIFF, through Pillow. Of an animation the first frame is taken.

    Raises:
        DataError: If neither can decode it.
    """
    from torchvision.io import decode_image
    from torchvision.transforms.v2 import functional

    try:
        with warnings.catch_warnings():
            # torchvision 0.29 announces a move to torchcodec, which is no dependency here
            warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)
            image = decode_image(str(path), mode="RGB")
    except RuntimeError:
        return _decode_with_pillow(path)
    frame = image[0] if image.ndim == 4 else image
    return functional.to_dtype(frame, torch.uint8, scale=True)


def _decode_with_pillow(path: Path) -> Tensor:
    from PIL import Image
    from torchvision.transforms.v2 import functional

    try:
        with Image.open(path) as image:
            return functional.pil_to_tensor(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} could not be decoded: replace or delete it") from error
