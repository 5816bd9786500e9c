"""Segmentation: which pixels belong to a cell, with a small U-Net and the overlap as its score."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from admm_exp.data.dataset import Dataset
from admm_exp.data.iterable import iterable_dataset

SIDE, CELLS = 24, 3


def draw(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw noisy images, (n, 1, 24, 24), of bright discs, and their masks, 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(samples, CELLS, 2, generator=generator) * SIDE
    radii = 2 + 3 * torch.rand(samples, CELLS, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    places = torch.stack([rows, columns], -1)
    distances = (places - centres[:, :, None, None]).norm(dim=-1)
    masks = (distances < radii[:, :, None, None]).any(1, keepdim=True).float()
    return masks + 0.4 * torch.randn(masks.shape, generator=generator), masks


def cells(batch_size: int, seed: int) -> Dataset:
    """Images whose target is an image: there are no classes, so `num_classes` is left out."""
    splits = (draw(samples, seed + part) for part, samples in enumerate((384, 64, 64)))
    train, val, test = (
        list(zip(images.split(batch_size), masks.split(batch_size), strict=True))
        for images, masks in splits
    )
    return iterable_dataset(name="cells", train=train, val=val, test=test)


def train(model, optimizer, epoch, batches):
    """Train one epoch with a loss over all pixels of a batch."""
    model.train()
    for images, masks in batches:
        optimizer.zero_grad()
        loss = soft_overlap_loss(model(images), masks)
        loss.backward()
        optimizer.step()
    return loss.item()


def soft_overlap_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy a pixel, and what soft guesses lack in overlap."""
    guessed = logits.sigmoid()
    shared, total = (guessed * masks).sum(), (guessed + masks).sum()
    return F.binary_cross_entropy_with_logits(logits, masks) + 1 - 2 * shared / total


@torch.no_grad()
def overlap(model, batches):
    """Intersection over union of guessed and true cells, in [0, 1]."""
    model.eval()
    both = either = 0.0
    for images, masks in batches:
        guessed, true = model(images) > 0, masks > 0
        both += (guessed & true).sum().item()
        either += (guessed | true).sum().item()
    return both / max(1.0, either)


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()),
        *(nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()),
    )


class UNet(nn.Module):
    """Two steps down, two up, with what each step down saw beside what comes up again.

    Args:
        in_channels: Of the images.
        width: Channels of the first step; every step down doubles them.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(in_channels, width), block(width, 2 * width)])
        self.bottom = block(2 * width, 4 * width)
        self.rise = nn.ModuleList(
            [
                nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
                nn.ConvTranspose2d(2 * width, width, 2, 2),
            ]
        )
        self.up = nn.ModuleList([block(4 * width, 2 * width), block(2 * width, width)])
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        seen, x = [], images
        for step in self.down:
            seen.append(step(x))
            x = F.max_pool2d(seen[-1], 2)
        x = self.bottom(x)
        for rise, step, skipped in zip(self.rise, self.up, reversed(seen), strict=True):
            x = step(torch.cat([skipped, rise(x)], 1))
        return self.last(x)
