"""Random crops and flips of a whole batch, drawn per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from admm_exp.errors import DataError


@dataclass(frozen=True)
class Augmentation:
    """What happens to each training image.

    Args:
        crop_padding: Pixels of zeros on every side before a crop of the old size, >= 0.
        flip: Mirror left to right with probability 1/2.

    Raises:
        DataError: If crop_padding is negative.
    """

    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise DataError(f"crop_padding must be at least 0, got {self.crop_padding}")


@dataclass(frozen=True)
class Shifts:
    """Where each of n images is cropped, and whether it is mirrored after that.

    Args:
        dy, dx: int64 (n,), upper left corner in the padded image, in [0, 2 * crop_padding].
        flip: Bool (n,), or None where no image is mirrored.
    """

    dy: Tensor
    dx: Tensor
    flip: Tensor | None

    def __getitem__(self, rows: slice) -> Shifts:
        return Shifts(self.dy[rows], self.dx[rows], None if self.flip is None else self.flip[rows])

    def to(self, device: torch.device) -> Shifts:
        """Return the shifts on `device`."""
        return Shifts(
            self.dy.to(device),
            self.dx.to(device),
            None if self.flip is None else self.flip.to(device),
        )


def draw_shifts(n: int, augmentation: Augmentation, generator: torch.Generator) -> Shifts:
    """Draw crop corner and flip of `n` images, each uniform and independent, on the CPU."""
    corners = 2 * augmentation.crop_padding + 1
    dy, dx = torch.randint(corners, (2, n), generator=generator)
    flip = torch.randint(2, (n,), generator=generator).bool() if augmentation.flip else None
    return Shifts(dy, dx, flip)


def crop_windows(padded: Tensor, height: int, width: int) -> Tensor:
    """View every crop of every image: (N, C, H', W') to (N, C, dy, dx, height, width).

    Args:
        padded: Images already padded.

    Returns:
        A view, no memory of its own; its first crop index is dy, its second dx.
    """
    return padded.unfold(2, height, 1).unfold(3, width, 1)


def crop_and_flip(windows: Tensor, index: Tensor, shifts: Shifts) -> Tensor:
    """Gather, crop and mirror a batch in one indexing kernel and one `where`.

    Args:
        windows: From `crop_windows`.
        index: (B,) int64, which images.
        shifts: Of these B images.

    Returns:
        (B, C, H, W), a copy.

    References:
        Jordan 2024, arXiv 2404.00498 (batched augmentation on the device).
    """
    cropped = windows[index, :, shifts.dy, shifts.dx]
    if shifts.flip is None:
        return cropped
    return torch.where(shifts.flip[:, None, None, None], cropped.flip(-1), cropped)


def pad(images: Tensor, padding: int) -> Tensor:
    """Return `images` (N, C, H, W) with `padding` zero pixels on every side."""
    return F.pad(images, (padding,) * 4)
