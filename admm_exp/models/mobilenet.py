"""MobileNet V1: depthwise separable convolutions.

References:
    Howard et al. 2017, arXiv 1704.04861, table 1.
"""

from torch import Tensor, nn

from admm_exp.models.initialization import kaiming_init_
from admm_exp.models.limits import require_positive

STEM_CHANNELS = 32
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *(((512, 1),) * 5),
    (1024, 2),
    (1024, 1),
)
"""(channels, stride) of the depthwise separable blocks."""


class MobileNetV1(nn.Module):
    """A strided 3x3 stem, thirteen depthwise separable blocks, one linear layer.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the images.
        width_multiplier: Alpha of the paper, > 0; scales the channels of every layer.

    Raises:
        ModelError: `width_multiplier` is not positive.
    """

    def __init__(self, num_classes: int, in_channels: int, width_multiplier: float) -> None:
        super().__init__()
        require_positive("width_multiplier", width_multiplier)
        channels = _scaled(STEM_CHANNELS, width_multiplier)
        blocks = [_convolution(in_channels, channels, kernel_size=3, stride=2)]
        for block_channels, stride in BLOCKS:
            out_channels = _scaled(block_channels, width_multiplier)
            blocks.append(_separable(channels, out_channels, stride))
            channels = out_channels
        self.features = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        kaiming_init_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) of any size to logits (N, num_classes)."""
        return self.fc(self.avgpool(self.features(images)).flatten(1))


def _scaled(channels: int, width_multiplier: float) -> int:
    return max(1, round(channels * width_multiplier))


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    depthwise = _convolution(in_channels, in_channels, 3, stride, groups=in_channels)
    return nn.Sequential(depthwise, _convolution(in_channels, out_channels, 1, 1))


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def mobilenet_v1(
    num_classes: int, in_channels: int = 3, width_multiplier: float = 1.0
) -> MobileNetV1:
    """Build MobileNet V1, 4.2 M parameters at 1000 classes, for 32x32 and 224x224 alike."""
    return MobileNetV1(num_classes, in_channels, width_multiplier)
