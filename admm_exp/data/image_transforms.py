"""From a decoded image of any size to the square that the network sees, in uint8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from admm_exp.data.dataset import MAX_SIDE, require_side
from admm_exp.errors import DataError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training pixels in [0, 1]; pretrained networks expect them for other images too."""


@dataclass(frozen=True)
class SquareCrops:
    """Random crops for training, central crops for evaluation.

    Args:
        img_size: Side of the crop, in pixels, at least 1.
        min_area: Smallest share of an image's area that a training crop takes, in (0, 1].
        crop_fraction: Side of the evaluation crop over the resized short side, in (0, 1].
        flip: Mirror a training crop left to right with probability 1/2.

    Raises:
        DataError: If a value is out of range.
    """

    img_size: int
    min_area: float
    crop_fraction: float
    flip: bool

    def __post_init__(self) -> None:
        require_side("img_size", self.img_size)
        for key in ("min_area", "crop_fraction"):
            share = getattr(self, key)
            if not 0 < share <= 1:
                raise DataError(f"{key} must be in (0, 1], got {share}")
        if self.img_size > MAX_SIDE * self.crop_fraction:
            raise DataError(
                f"crop_fraction must be at least {self.img_size / MAX_SIDE:g}, so that images are "
                f"resized to at most {MAX_SIDE} pixels, got {self.crop_fraction}"
            )

    def for_training(self) -> Callable[[Tensor], Tensor]:
        """Return random crop, resize and flip, uint8 (C, h, w) to uint8 (C, img_size, img_size).

        References:
            Szegedy et al. 2015, arXiv 1409.4842, section 6.
        """
        from torchvision.transforms import v2

        crop = v2.RandomResizedCrop(self.img_size, scale=(self.min_area, 1.0), antialias=True)
        return v2.Compose([crop, v2.RandomHorizontalFlip(0.5 if self.flip else 0.0)])

    def for_evaluation(self) -> Callable[[Tensor], Tensor]:
        """Return resize and central crop, uint8 (C, h, w) to uint8 (C, img_size, img_size)."""
        from torchvision.transforms import v2

        short_side = round(self.img_size / self.crop_fraction)
        return v2.Compose([v2.Resize(short_side, antialias=True), v2.CenterCrop(self.img_size)])
