"""VGG-16 with batch normalization for small images: thirteen convolutions, one linear layer.

References:
    Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column D, with the two hidden linear
    layers left out as is usual on CIFAR.
"""

from torch import Tensor, nn

from admm_exp.models.initialization import kaiming_init_
from admm_exp.models.limits import require_image_size

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions) of the stages, each ending in a 2x2 max pooling."""


class VGG16BN(nn.Module):
    """Five stages of convolution, batch norm and ReLU, then a linear classifier.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the images.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, convolutions in STAGES:
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
                in_channels = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(in_channels, num_classes)
        kaiming_init_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes).

        Raises:
            ModelError: H or W is below 32, which five poolings reduce to nothing.
        """
        require_image_size(images, 2 ** len(STAGES), "vgg16_bn")
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def vgg16_bn(num_classes: int, in_channels: int = 3) -> VGG16BN:
    """Build VGG-16 with batch norm, 14.7 M parameters, for images of at least 32x32."""
    return VGG16BN(num_classes, in_channels)
