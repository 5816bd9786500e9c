"""From stored pixels to what the network sees, a batch at a time on the batch's device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Normalise:
    """(pixels / 255 - mean) / std per channel.

    Args:
        mean, std: C numbers each, of pixel values scaled to [0, 1].
        device: Where the batches are.

    Raises:
        ValueError: If mean and std differ in length, or a std is not positive.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"
    ) -> None:
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(
                f"mean and std must have one number per channel, std above 0, got {mean} and {std}"
            )
        self.mean = tuple(mean)
        self.std = tuple(std)
        self._offset = 255 * torch.tensor(self.mean, device=device)[:, None, None]
        self._scale = 1 / (255 * torch.tensor(self.std, device=device)[:, None, None])

    def to(self, device: torch.device | str) -> Normalise:
        """Return the same normalisation for batches on `device`."""
        return Normalise(self.mean, self.std, device)

    def __call__(self, images: Tensor) -> Tensor:
        """Return normalised float32 images; the network chooses the layout of its own convolutions.

        Args:
            images: (B, C, H, W) uint8; not changed.

        Raises:
            TypeError: If the images are not uint8.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8 in [0, 255], got {images.dtype}")
        return images.to(torch.float32).sub_(self._offset).mul_(self._scale).contiguous()


def resize(images: Tensor, img_size: int) -> Tensor:
    """Return `images` float32 (B, C, H, W) as squares of `img_size` pixels, bilinear, antialiased.

    The weights sum to 1, so resizing after normalising gives the same as before it.
    """
    return torch.nn.functional.interpolate(
        images, size=(img_size, img_size), mode="bilinear", antialias=True
    )
