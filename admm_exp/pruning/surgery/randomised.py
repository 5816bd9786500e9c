"""Random numbers in place of those of a network and of its inputs, which hide nothing."""

from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.inputs import call
from admm_exp.pruning.dependency.structures import map_tensors

PERIOD = 1_000_003
"""Random numbers that are drawn for a network, a prime."""


class _Drawn:
    """Random numbers in [-1/2, 1/2), drawn once and used again and again.

    Drawing as many as a large network holds takes longer than running it. The period is prime, so
    no two rows of a parameter are alike, and every parameter begins somewhere else.

    Args:
        seed: Of the numbers.
    """

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._numbers = torch.rand(PERIOD, generator=generator).sub_(0.5)
        self._start = 0

    def fill_(self, tensor: Tensor, low: float, high: float) -> None:
        """Write the next numbers, scaled to [low, high), in the order of the tensor's indices."""
        flat = tensor.view(-1) if tensor.is_contiguous() else tensor.new_empty(tensor.numel())
        place = 0
        while place < len(flat):
            numbers = self._numbers[self._start : self._start + len(flat) - place]
            piece = flat[place : place + len(numbers)]
            torch.mul(numbers, high - low, out=piece)
            if low + high:
                piece.add_((low + high) / 2)
            place += len(numbers)
            self._start = (self._start + len(numbers)) % PERIOD
        if not tensor.is_contiguous():
            tensor.copy_(flat.view(tensor.shape))


@torch.no_grad()
def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and running statistic a random value and outputs the order of 1.

    A fresh norm (gamma 1, beta 0, mean 0, variance 1), a bias of zero or a layer scale of 1e-6
    would hide a mistake.

    Args:
        model: Changed in place, outside the global random state.
        seed: Of the values.

    Returns:
        The model.
    """
    uniform_ = _Drawn(seed).fill_
    for parameter in model.parameters():
        if parameter.is_floating_point():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 18
            spread = (4.5 / fan_in) ** 0.5  # of which two fifths to three fifths are left
            uniform_(parameter, -spread, spread)
    module: Any
    for module in model.modules():
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)
        if is_norm and module.weight is not None:
            uniform_(module.weight, 0.5, 1.5)
        if getattr(module, "running_mean", None) is not None:
            uniform_(module.running_mean, -0.5, 0.5)
            uniform_(module.running_var, 0.5, 1.5)
    return model


def random_inputs(network: nn.Module, example_input: Any) -> Any:
    """Replace floating-point inputs by random numbers, which hide nothing, where those are taken.

    Of several inputs some may be masks, boxes or lengths: those that are not constant stay.
    """
    generator = torch.Generator().manual_seed(0)
    is_alone = isinstance(example_input, Tensor)

    def drawn(tensor: Tensor) -> Tensor:
        is_constant = tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())
        if not tensor.is_floating_point() or not (is_alone or is_constant):
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor)

    inputs = map_tensors(example_input, drawn)
    if not is_alone:
        try:
            with torch.no_grad():
                call(network, inputs)
        except Exception:  # ones may be the only mask, and zeros the only offset, that it takes
            return example_input
    return inputs
