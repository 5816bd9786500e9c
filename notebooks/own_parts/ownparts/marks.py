"""Several labels an image: which marks are drawn on it, with a loss and a metric of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from admm_exp.data.dataset import Dataset
from admm_exp.data.iterable import iterable_dataset

MARKS = 3  # a horizontal bar, a vertical bar, a square


def draw(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(samples, MARKS, generator=generator) < 0.5).float()
    images = 0.3 * torch.randn(samples, 1, 12, 12, generator=generator)
    images[:, :, 2, :] += labels[:, 0, None, None]
    images[:, :, :, 9] += labels[:, 1, None, None]
    images[:, :, 5:8, 3:6] += labels[:, 2, None, None, None]
    return images, labels


def marks(batch_size: int, seed: int) -> Dataset:
    """Grey 12 x 12 images; a label is a vector of zeros and ones, (3,)."""
    splits = (draw(samples, seed + part) for part, samples in enumerate((512, 128, 128)))
    train, val, test = (
        list(zip(images.split(batch_size), labels.split(batch_size), strict=True))
        for images, labels in splits
    )
    return iterable_dataset(name="marks", train=train, val=val, test=test, num_classes=MARKS)


def train(model, optimizer, epoch, batches, positive_weight):
    """Train one epoch with a loss a label."""
    model.train()
    weight = torch.tensor(positive_weight)
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(images), labels, pos_weight=weight)
        loss.backward()
        optimizer.step()
    return loss.item()


@torch.no_grad()
def f1_score(model, batches):
    """F1 over all labels of all images, in [0, 1]."""
    model.eval()
    hits = guesses = positives = 0.0
    for images, labels in batches:
        guessed = model(images) > 0
        hits += (guessed & (labels > 0)).sum().item()
        guesses += guessed.sum().item()
        positives += labels.sum().item()
    return 2 * hits / max(1.0, guesses + positives)


def marks_net(num_classes: int, in_channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 64, num_classes),
    )
