"""Plain chains of convolutions that end in a flatten, for grey digits.

The last pooling has a fixed output, which is the usual 2x2 pooling at the least image size and
lets larger images in.

References:
    LeCun et al. 1998, doi 10.1109/5.726791; LeNet-5 in the sizes that Zhang et al. 2018,
    arXiv 1804.03294, table 1, prune.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from admm_exp.models.limits import require_image_size, require_positive


class LeNet5(nn.Module):
    """Two 5x5 convolutions with pooling, two linear layers.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the images.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.AdaptiveMaxPool2d(4)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes).

        Raises:
            ModelError: H or W is below 28.
        """
        require_image_size(images, 28, "lenet5")
        features = self.pool1(F.relu(self.conv1(images)))
        features = self.pool2(F.relu(self.conv2(features)))
        return self.fc2(F.relu(self.fc1(features.flatten(1))))


class SmallCNN(nn.Module):
    """Two 3x3 convolutions with pooling, one linear layer over the flattened 2x2 map.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the images.
        width: Channels of the first convolution; the second has twice as many.

    Raises:
        ModelError: `width` is not positive.
    """

    def __init__(self, num_classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        require_positive("width", width)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.pool2 = nn.AdaptiveMaxPool2d(2)
        self.fc = nn.Linear(2 * width * 2 * 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes).

        Raises:
            ModelError: H or W is below 8.
        """
        require_image_size(images, 8, "small_cnn")
        features = self.pool1(F.relu(self.conv1(images)))
        features = self.pool2(F.relu(self.conv2(features)))
        return self.fc(features.flatten(1))


def lenet5(num_classes: int, in_channels: int = 1) -> LeNet5:
    """Build the LeNet-5 of 430,500 weights, for images of at least 28x28."""
    return LeNet5(num_classes, in_channels)


def small_cnn(num_classes: int, in_channels: int = 1, width: int = 16) -> SmallCNN:
    """Build the smallest network of the house, for images of at least 8x8."""
    return SmallCNN(num_classes, in_channels, width)
