"""Tiny networks, one per way in which channels are tied, with norms that hide nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms and PReLUs the values of a trained network and all outputs the order of 1.

    A fresh norm (gamma 1, beta 0, mean 0, variance 1) hides every mistake about it.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform_(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            if module.affine:
                uniform_(module.weight, 0.5, 1.5)
                uniform_(module.bias, -0.5, 0.5)
            if module.track_running_stats:
                uniform_(module.running_mean, -0.5, 0.5)
                uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            uniform_(module.weight, 0.5, 1.5)
            uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.PReLU):
            uniform_(module.weight, 0.1, 0.5)
        elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            spread = (6.0 / module.weight[0].numel()) ** 0.5
            uniform_(module.weight, -spread, spread)
            if module.bias is not None:
                uniform_(module.bias, -0.5, 0.5)
        else:  # a layer scale starts near zero and hides its whole branch
            for parameter in module.parameters(recurse=False):
                uniform_(parameter, -0.5, 0.5)
    return model


def plain_chain() -> nn.Module:
    """Convolutions with norm, pooled to a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def chain_without_norm() -> nn.Module:
    """Convolutions with bias and no norm."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def mlp() -> nn.Module:
    """Linear layers on vectors of 6."""
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 10), nn.SiLU(), nn.Linear(10, 5)
    )


def flatten() -> nn.Module:
    """A 4x4 map flattened into a linear layer: 16 columns per channel."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
        nn.ReLU(),
        nn.Linear(10, 5),
    )


def flatten_norm() -> nn.Module:
    """A 4x4 map flattened into a norm: 16 gammas and betas per channel."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.BatchNorm1d(8 * 4 * 4),
        nn.ReLU(),
        nn.Linear(8 * 4 * 4, 5),
    )


def conv1d() -> nn.Module:
    """One-dimensional convolutions on (N, 3, L)."""
    return nn.Sequential(
        nn.Conv1d(3, 8, 3, padding=1),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 10, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(10, 5),
    )


def conv3d() -> nn.Module:
    """Three-dimensional convolutions on (N, 3, D, H, W)."""
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.Conv3d(8, 10, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(10, 5),
    )


def transposed() -> nn.Module:
    """A transposed convolution, whose output channels are dimension 1 of the weight."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 10, 2, stride=2),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.Conv2d(10, 5, 3, padding=1),
    )


def prelu() -> nn.Module:
    """One slope per channel, then one for all."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.Conv2d(8, 10, 3, padding=1),
        nn.PReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(10, 5),
    )


def instance_norm() -> nn.Module:
    """A norm over each channel's own pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.InstanceNorm2d(8, affine=True),
        nn.ReLU(),
        nn.Conv2d(8, 5, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def depthwise() -> nn.Module:
    """A depthwise convolution between two pointwise ones, each with norm, as in MobileNet."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


def grouped(blocks: int = 2) -> nn.Module:
    """A grouped convolution whose inputs and outputs are both prunable."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=1, groups=blocks),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Residual(nn.Module):
    """A stem, a block with identity shortcut and one with a projection, then a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.same = self._branch(8, 6, 8, stride=1)
        self.wider = self._branch(8, 6, 12, stride=2)
        self.downsample = nn.Sequential(nn.Conv2d(8, 12, 1, stride=2), nn.BatchNorm2d(12))
        self.fc = nn.Linear(12, 5)

    @staticmethod
    def _branch(in_channels: int, width: int, out_channels: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.stem(images))
        features = F.relu(features + self.same(features))
        features = F.relu(self.downsample(features) + self.wider(features))
        return self.fc(features.mean((2, 3)))


class DenseBlock(nn.Module):
    """Every layer sees all features before it, through a norm that follows the concatenation.

    Args:
        keep_input: Whether the raw input is one of the branches, which nobody can prune.
    """

    def __init__(self, keep_input: bool = False) -> None:
        super().__init__()
        width = 3 if keep_input else 8
        self.stem = nn.Identity() if keep_input else nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(self._layer(width + 6 * i) for i in range(2))
        self.norm = nn.BatchNorm2d(width + 12)
        self.fc = nn.Linear(width + 12, 5)

    @staticmethod
    def _layer(in_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, 6, 3, padding=1)
        )

    def forward(self, images: Tensor) -> Tensor:
        features = [self.stem(images)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.fc(F.relu(self.norm(torch.cat(features, 1))).mean((2, 3)))


class Gated(nn.Module):
    """Squeeze and excitation: a sigmoid gate per channel, computed from the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.squeeze = nn.Conv2d(12, 6, 1)
        self.excite = nn.Conv2d(6, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.norm(self.conv(images)))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(features, 1))))
        return self.fc((features * gate.sigmoid()).mean((2, 3)))


IMAGE, VECTOR, SIGNAL, VOLUME = (3, 8, 8), (6,), (3, 16), (3, 4, 4, 4)

NETWORKS = {
    "plain_chain": (plain_chain, IMAGE),
    "chain_without_norm": (chain_without_norm, IMAGE),
    "mlp": (mlp, VECTOR),
    "flatten": (flatten, IMAGE),
    "flatten_norm": (flatten_norm, IMAGE),
    "conv1d": (conv1d, SIGNAL),
    "conv3d": (conv3d, VOLUME),
    "transposed": (transposed, IMAGE),
    "prelu": (prelu, IMAGE),
    "instance_norm": (instance_norm, IMAGE),
    "depthwise": (depthwise, IMAGE),
    "grouped": (grouped, IMAGE),
    "grouped_by_3": (lambda: grouped(3), IMAGE),
    "residual": (Residual, IMAGE),
    "dense_block": (DenseBlock, IMAGE),
    "dense_block_with_input": (lambda: DenseBlock(keep_input=True), IMAGE),
    "gated": (Gated, IMAGE),
}
"""Name to builder and the shape of one sample."""


def build(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Build a network of `NETWORKS` with random values, in eval mode, and a batch of inputs."""
    builder, shape = NETWORKS[name]
    generator = torch.Generator().manual_seed(seed + 1)
    return randomise_(builder(), seed).eval(), torch.randn(4, *shape, generator=generator)
