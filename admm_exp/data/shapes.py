"""Shapes: small colour images that are drawn, not downloaded; harder than digits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from admm_exp.data.augment import Augmentation
from admm_exp.data.dataset import Dataset
from admm_exp.data.in_memory import Samples, carve, in_memory_dataset
from admm_exp.errors import DataError

SIDE = 32
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
IMAGES_AT_ONCE = 1000  # the order of the random numbers depends on it
EDGE = 12.0
"""Steepness of an outline: it fades over about 1/EDGE of the shape's radius."""


def shapes(
    *,
    batch_size: int,
    seed: int,
    train_size: int,
    test_size: int,
    val_fraction: float,
    draw_seed: int,
    noise: float,
    crop_padding: int,
    flip: bool,
    img_size: int | None = None,
    train_images: int | None = None,
) -> Dataset:
    """Draw ten kinds of shapes on cluttered colour images of 32x32 pixels.

    A shape has a random place, size, angle, colour and contrast; a bar, blobs of colour and pixel
    noise lie over it. Every image is drawn anew, so no two are alike and test images are unseen.

    Args:
        seed: Of order and augmentation.
        train_size: Images for training and validation together, at least 100.
        test_size: Images for testing, at least 100.
        val_fraction: Of train_size, in (0, 1).
        draw_seed: Of the images and the split, apart from `seed` so that all runs share them.
        noise: Standard deviation of the pixel noise, in units of the pixel range; at least 0.
        crop_padding: Pixels of zeros around an image before it is cropped again.
        flip: Mirror half of the training images.
        img_size: Side that the batches are resized to, in pixels; None leaves 32.
        train_images: How many of the train_size images are used, all kinds alike; None uses all.

    Raises:
        DataError: If a value is out of range.
    """
    for name, size in {"train_size": train_size, "test_size": test_size}.items():
        if size < 100:
            raise DataError(f"dataset.{name} must be at least 100, got {size}")
    if not 0.0 <= noise < 10.0:
        raise DataError(f"dataset.noise must be in [0, 10), got {noise}")
    images, labels = draw_shapes(train_size + test_size, noise, draw_seed)
    return in_memory_dataset(
        name="shapes",
        splits=carve(
            (images[:train_size], labels[:train_size]),
            (images[train_size:], labels[train_size:]),
            train_images=train_images,
            val_fraction=val_fraction,
            split_seed=draw_seed,
        ),
        num_classes=len(KINDS),
        mean=MEAN,
        std=STD,
        augment=Augmentation(crop_padding, flip),
        batch_size=batch_size,
        seed=seed,
        img_size=img_size,
    )


def draw_shapes(n: int, noise: float, seed: int) -> Samples:
    """Draw images, the same ones for the same arguments.

    Args:
        n: Number of images.
        noise: Standard deviation of the pixel noise, in units of the pixel range.
        seed: Of everything that is random.

    Returns:
        Images uint8 (n, 3, 32, 32) and labels int64 (n,), every kind as often as the others.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(KINDS)
    parts = [_draw(part, noise, generator) for part in labels.split(IMAGES_AT_ONCE)]
    return torch.cat(parts), labels


def _draw(labels: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    back, front = uniform(0.1, 0.9, 3, 1, 1), uniform(0.1, 0.9, 3, 1, 1)
    contrast = uniform(0.6, 1.0, 1, 1, 1)
    difference = front - back
    difference = difference / difference.norm(dim=1, keepdim=True).clamp_min(1e-3)
    cover = _outlines(labels, uniform(-0.2, 0.2, 2), uniform(0.5, 0.75), uniform(-0.4, 0.4))
    tint = uniform(-0.25, 0.25, 3, 3, 3)
    image = back + torch.nn.functional.interpolate(
        tint, size=(SIDE, SIDE), mode="bilinear", align_corners=True
    )
    image = image + contrast * cover.unsqueeze(1) * difference
    bar = _bars(uniform(-0.8, 0.8), uniform(-3.2, 3.2)).unsqueeze(1)
    image = torch.lerp(image, uniform(0.0, 1.0, 3, 1, 1), 0.7 * bar)
    image = image + noise * torch.randn(image.shape, generator=generator)
    return (image.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def _grid() -> tuple[Tensor, Tensor]:
    line = torch.linspace(-1.0, 1.0, SIDE)
    return line.view(1, SIDE, 1), line.view(1, 1, SIDE)


def _outlines(labels: Tensor, centers: Tensor, radii: Tensor, angles: Tensor) -> Tensor:
    """Cover of the shapes in [0, 1]: (n, 32, 32) from (n,), (n, 2), (n,) and (n,)."""
    y, x = _grid()
    y, x = y - centers[:, 0].view(-1, 1, 1), x - centers[:, 1].view(-1, 1, 1)
    cos, sin = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    radius = radii.view(-1, 1, 1)
    u, v = (cos * x + sin * y) / radius, (cos * y - sin * x) / radius
    cover = torch.empty(len(labels), SIDE, SIDE)
    for kind, depth in enumerate(KINDS):
        rows = labels == kind
        cover[rows] = (EDGE * depth(u[rows], v[rows])).sigmoid()
    return cover


def _bars(offsets: Tensor, angles: Tensor) -> Tensor:
    y, x = _grid()
    cos, sin = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    distance = (cos * x + sin * y - offsets.view(-1, 1, 1)).abs()
    return (SIDE * (0.05 - distance)).sigmoid()


def _box(u: Tensor, v: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.minimum(half_width - u.abs(), half_height - v.abs())


def _disc(u: Tensor, v: Tensor, radius: float) -> Tensor:
    return radius - (u.square() + v.square()).sqrt()


def _polygon(u: Tensor, v: Tensor, corners: int, radius: float) -> Tensor:
    angles = [2 * torch.pi * k / corners for k in range(corners)]
    normals = torch.tensor(angles)
    heights = u.unsqueeze(-1) * normals.cos() + v.unsqueeze(-1) * normals.sin()
    return radius - heights.amax(-1)


KINDS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda u, v: _disc(u, v, 0.9),
    lambda u, v: torch.minimum(_disc(u, v, 1.0), -_disc(u, v, 0.55)),
    lambda u, v: _box(u, v, 0.8, 0.8),
    lambda u, v: torch.minimum(_box(u, v, 0.9, 0.9), -_box(u, v, 0.5, 0.5)),
    lambda u, v: _polygon(u, v, 3, 0.6),
    lambda u, v: torch.maximum(_box(u, v, 0.25, 1.0), _box(u, v, 1.0, 0.25)),
    lambda u, v: _box(u.abs() - 0.6, v, 0.25, 0.95),
    lambda u, v: torch.minimum(_disc(u, v + 0.4, 1.0), v + 0.4),
    lambda u, v: torch.maximum(_box(u + 0.55, v, 0.25, 0.95), _box(u, v - 0.7, 0.8, 0.25)),
    lambda u, v: torch.maximum(_polygon(u, v, 3, 0.45), _polygon(-u, -v, 3, 0.45)),
)
"""Depth inside a shape of about unit radius, by kind: disc, ring, square, frame, triangle, cross,
two bars, half disc, angle, star; positive inside, (n, 32, 32) from (n, 32, 32) twice."""
