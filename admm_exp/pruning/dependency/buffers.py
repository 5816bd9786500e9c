"""Buffers of a network: constants that may be as wide as its channels."""

from torch import Tensor, nn


class Buffers:
    """The buffers of a network, by their identity.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places = {
            id(buffer): (name, key)
            for name, module in model.named_modules()
            for key, buffer in module.named_buffers(recurse=False)
        }

    def place(self, tensor: Tensor) -> tuple[str, str] | None:
        """Name the layer and the buffer that a tensor is; None if it is none."""
        return self._places.get(id(tensor))

    def is_line(self, tensor: Tensor) -> bool:
        """Whether this is a buffer of numbers along one dimension, as gammas of frozen norms."""
        is_thin = sum(size > 1 for size in tensor.shape) == 1
        return id(tensor) in self._places and is_thin and tensor.is_floating_point()
