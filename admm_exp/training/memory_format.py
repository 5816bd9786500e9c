"""Memory layout of a network's convolutions."""

import torch
from torch import nn

FEWEST_INPUTS = 16


def suited_layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Choose channels last, which is 1.2 to 1.3 times faster, wherever it is safe.

    On CPUs oneDNN reads past the end of its buffers in the weight gradient of a pointwise
    convolution with stride 2 and fewer than 16 input channels when the tensors are channels last
    (torch 2.15: the process dies at 48x48 pixels), so networks that hold one keep the contiguous
    layout. The cut network has to be asked anew: it has fewer channels.

    Args:
        model: The network.
        device: Where it trains.
    """
    is_at_risk = device.type == "cpu" and any(_is_at_risk(layer) for layer in model.modules())
    is_volumetric = any(p.dim() == 5 for p in model.parameters())  # has a layout of its own
    return torch.contiguous_format if is_at_risk or is_volumetric else torch.channels_last


def laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    """Bring a network on a device into the layout that suits it, in place."""
    return model.to(memory_format=suited_layout(model, device))


def _is_at_risk(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < FEWEST_INPUTS
    )
