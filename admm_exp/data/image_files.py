"""Image files as samples: which files there are, how one is decoded and transformed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from admm_exp.data.decoding import decode_rgb, require_readable


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
            DataError: If a file is empty, too large, a link to nowhere or no regular file.
        """
        return "\n".join(map(self._describe_file, self.paths, self.labels.tolist()))

    def _describe_file(self, path: str, label: int) -> str:
        status = require_readable(self.root / path)
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
        self.labels = files.labels
        """int64 (N,)"""
        self._transform = transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = decode_rgb(self._root / self._paths[index])
        return self._transform(image), int(self.labels[index])
