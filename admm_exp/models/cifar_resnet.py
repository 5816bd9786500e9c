"""Residual networks for small images, three stages of basic blocks.

The shortcut is a projection wherever the shape changes (option B), so that every channel of the
network belongs to a prunable group; option A pads with zeros, which no pruner can cut.

References:
    He et al. 2016, arXiv 1512.03385, section 4.2.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from admm_exp.models.initialization import kaiming_init_
from admm_exp.models.limits import require_positive


class BasicBlock(nn.Module):
    """Add two 3x3 convolutions to the shortcut.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the first convolution and of the projection.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        residual = F.relu(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + self.downsample(features))


class CifarResNet(nn.Module):
    """A 3x3 stem, three stages of `width`, `2 * width` and `4 * width` channels, one linear layer.

    Args:
        blocks_per_stage: The n of the paper; the depth is 6n + 2.
        num_classes: Outputs.
        in_channels: Channels of the images.
        width: Channels of the stem and of the first stage.

    Raises:
        ModelError: `width` is not positive.
    """

    def __init__(
        self, blocks_per_stage: int, num_classes: int, in_channels: int, width: int
    ) -> None:
        super().__init__()
        require_positive("width", width)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks_per_stage, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks_per_stage, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks_per_stage, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        kaiming_init_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) of any size to logits (N, num_classes)."""
        features = F.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        return self.fc(self.avgpool(features).flatten(1))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    rest = [BasicBlock(out_channels, out_channels, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def resnet8(num_classes: int, in_channels: int = 3, width: int = 16) -> CifarResNet:
    """Build the ResNet with one block per stage, small enough for 8x8 digits."""
    return CifarResNet(1, num_classes, in_channels, width)


def resnet20(num_classes: int, in_channels: int = 3, width: int = 16) -> CifarResNet:
    """Build the ResNet with three blocks per stage, 0.27 M parameters."""
    return CifarResNet(3, num_classes, in_channels, width)


def resnet56(num_classes: int, in_channels: int = 3, width: int = 16) -> CifarResNet:
    """Build the ResNet with nine blocks per stage, 0.85 M parameters."""
    return CifarResNet(9, num_classes, in_channels, width)


def resnet110(num_classes: int, in_channels: int = 3, width: int = 16) -> CifarResNet:
    """Build the ResNet with eighteen blocks per stage, 1.7 M parameters."""
    return CifarResNet(18, num_classes, in_channels, width)
