"""How the networks of this room start."""

from torch import nn


def kaiming_init_(model: nn.Module) -> None:
    """Draw every convolution's weight from N(0, 2 / fan_in), in place.

    Norm layers (gamma 1, beta 0) and linear layers keep PyTorch's start.

    Args:
        model: Its `nn.Conv2d` weights are overwritten, biases are left as they are.

    References:
        He et al. 2015, arXiv 1502.01852, equation 10.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
