"""Sequences: generated signals, classified by an LSTM, from loaders without a length."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from admm_exp.data.dataset import Dataset
from admm_exp.data.iterable import iterable_dataset

CLASSES = 4


class Loader:
    """A stream of batches as other libraries have it: mappings, no length, told the epoch."""

    def __init__(self, samples: int, batch_size: int, length: int, seed: int) -> None:
        self.samples, self.batch_size, self.length = samples, batch_size, length
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        labels = torch.randint(CLASSES, (self.samples,), generator=generator)
        time = torch.linspace(0, 1, self.length)
        phase = torch.rand(self.samples, 1, generator=generator)
        waves = torch.sin(2 * torch.pi * (time * (labels + 1).unsqueeze(1) + phase))
        signals = waves + 0.3 * torch.randn(waves.shape, generator=generator)
        order = torch.randperm(
            self.samples, generator=torch.Generator().manual_seed(self.seed + self.epoch)
        )
        for rows in order.split(self.batch_size):
            yield {"signal": signals[rows].unsqueeze(1), "label": labels[rows]}


def signals(batch_size: int, length: int, seed: int) -> Dataset:
    """Sine waves of one to four periods with noise, (1, length) each."""
    train, val, test = (
        Loader(samples, batch_size, length, seed + 1000 * part)
        for part, samples in enumerate((512, 128, 128))
    )
    return iterable_dataset(
        name="signals",
        train=train,
        val=val,
        test=test,
        num_classes=CLASSES,
        keys=("signal", "label"),
    )


class SignalNet(nn.Module):
    """A convolution over time, an LSTM, and a linear layer on its last output."""

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, width, 5, stride=2, padding=2)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, signals: Tensor) -> Tensor:
        features = self.conv(signals).relu()
        outputs, _ = self.lstm(features.transpose(1, 2))
        return self.fc(outputs[:, -1])
