"""Cheap numbers in place of large products, where labels are followed and nobody reads numbers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FEW = 8
"""Channels that a product is computed from."""
READING = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}
SHAPED_BY_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class NumbersRead(BaseException):
    """The network reads numbers, which a sketch has not got right: no error of the network's."""


class Sketch:
    """Computes products from a few of their channels: of the right shape, not of the right value.

    What a network does may depend on numbers all the same: on `item`, on the places where a mask
    is true, on what an operation that is not torch's own finds. Then it has to run for real.

    Args:
        is_on: Whether products are sketched at all.
    """

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self._is_drawn = False

    def product(
        self, func: Any, input: Tensor, weight: Tensor, *rest: Any, axis: int, groups: int = 1
    ) -> Any:
        """Call a linear layer or a convolution.

        Args:
            func: Called with the input, the weight and the rest.
            input: What it reads.
            weight: What it is multiplied by; its dimension 1 runs along the input channels.
            rest: Other arguments.
            axis: Dimension of the input channels, counted from behind.
            groups: Blocks of channels that are read apart; only one block is sketched.
        """
        if not self._fits(input, weight, axis) or groups > 1:
            return func(input, weight, *rest)
        self._is_drawn = True
        return func(input.narrow(axis, 0, FEW), weight.narrow(1, 0, FEW), *rest)

    def attention(self, attention: Any, inputs: Sequence[Tensor], asked: dict[str, Any]) -> Any:
        """Sketch what a multi-head attention gives back, or None where it has to run.

        Args:
            attention: The layer.
            inputs: Queries, keys and values.
            asked: Keyword arguments of the call.
        """
        masks = (asked.get(key) for key in ("attn_mask", "key_padding_mask", "mask"))
        is_plain = asked.get("need_weights") is False and all(mask is None for mask in masks)
        width, out = inputs[0].shape[-1], attention.out_proj
        if not (is_plain and width == attention.embed_dim == len(out.weight)):
            return None
        if any(given.shape != inputs[0].shape for given in inputs):
            return None
        if not self._fits(inputs[0], out.weight, -1):
            return None
        return self.product(torch._C._nn.linear, inputs[0], out.weight, out.bias, axis=-1), None

    def check_function(self, func: Any) -> None:
        """Look at a function of torch that is about to run.

        Raises:
            NumbersRead: If it reads numbers after a product was sketched.
        """
        if self._is_drawn and func in READING:
            raise NumbersRead

    def check_operation(self, func: Any, args: Sequence[Any]) -> None:
        """Look at an operation that is about to run.

        Raises:
            NumbersRead: If what it makes depends on numbers after a product was sketched.
        """
        if not self._is_drawn:
            return
        if func._overloadpacket.__name__ in ("index", "index_put", "index_put_"):
            kinds = [i.dtype for i in args[1] if i is not None]
            is_read = torch.bool in kinds or torch.uint8 in kinds
        else:
            is_read = not SHAPED_BY_VALUES.isdisjoint(func.tags)
        if is_read or func.namespace not in ("aten", "prims", "prim"):
            raise NumbersRead

    def _fits(self, input: Tensor, weight: Tensor, axis: int) -> bool:
        is_product = self.is_on and weight.dim() > 1 and input.dim() >= -axis
        return is_product and FEW < input.shape[axis] == weight.shape[1]
