"""Runs of a masked network that leave out what its zeros are multiplied with."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from admm_exp.pruning.dependency.inputs import call

aten = torch.ops.aten
LEAST_PRODUCTS = 10_000_000
"""Products of numbers from which on it takes less time to look for zeros than to compute them."""
LEAST_USES = 16
"""Products an entry that is read or written, likewise: what is read once is as soon multiplied."""
LEAST_SKIPPED = 0.25
"""Least fraction of a product that has to be gone before it is worth taking it apart."""


def call_skipping(masked: nn.Module, inputs: Any) -> Any:
    """Run a network, most of whose products may be with zeros, and do not compute those.

    Which entries are zero is read off the numbers themselves, of inputs and weights alike, at every
    product: nothing is believed about the groups of the network. Outputs are those of the network
    but for the order of sums.

    Args:
        masked: The network.
        inputs: As `call` takes them.

    Raises:
        Exception: Whatever the network raises.
    """
    is_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation with all products inside
    try:
        with suppress(Exception), _SkipsZeros():  # what the network raises it raises below
            return call(masked, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)
    return call(masked, inputs)


class _SkipsZeros(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = None
        if func is aten.addmm.default and not kwargs:
            made = _linear(args[1], args[2].t(), args[0])
        elif func is aten.mm.default and not kwargs:
            made = _linear(args[0], args[1].t(), None)
        elif func is aten.convolution.default and not (args[6] or args[8] > 1):
            sizes = zip(args[0].shape[2:], args[3], strict=True)
            n_places = len(args[0]) * prod(-(-size // stride) for size, stride in sizes)

            def multiply(*own: Any) -> Any:
                return func(*own, *args[3:])

            made = _product(multiply, args[0], args[1], args[2], n_places)
        return func(*args, **(kwargs or {})) if made is None else made


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    return _product(nn.functional.linear, input, weight, bias, len(input))


def _product(
    multiply: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    n_places: int,
) -> Tensor | None:
    """Multiply what is not zero, or give None where that is nearly everything.

    Args:
        multiply: Called with the input, the weight and the bias.
        input: (n, channels, ...).
        weight: (outputs, channels, ...).
        bias: (outputs,).
        n_places: Places at which every entry of the weight is multiplied, about.
    """
    is_plain = weight.dtype == input.dtype and weight.is_floating_point()
    n_products = weight.numel() * n_places
    n_entries = weight.numel() + input.numel() + len(weight) * n_places
    is_worth_it = n_products >= max(LEAST_PRODUCTS, LEAST_USES * n_entries)
    if not (is_plain and is_worth_it and weight.is_contiguous()):
        return None
    if not input.numel() or input.shape[1] != weight.shape[1]:
        return None
    rows, columns = _filled(weight.flatten(1), (1,)), _filled(input, (0, *range(2, input.dim())))
    if rows is None or columns is None:
        return None
    share = len(rows) * len(columns) / (len(weight) * weight.shape[1])
    if not 0 < share <= 1 - LEAST_SKIPPED:
        return None
    part = weight.index_select(0, rows).index_select(1, columns)
    own = None if bias is None else bias.index_select(0, rows)
    made = multiply(input.index_select(1, columns), part, own)
    outputs = made.new_zeros(len(input), len(weight), *made.shape[2:])
    if bias is not None:
        outputs += bias.view(-1, *[1] * (made.dim() - 2))
    return outputs.index_copy_(1, rows, made)


def _filled(tensor: Tensor, others: tuple[int, ...]) -> Tensor | None:
    """List the entries of the dimension that is left which are not zero all along the others.

    None where some are not finite: zero times infinity is not zero.
    """
    highest, lowest = tensor.amax(others), tensor.amin(others)  # torch.aminmax takes 20 times both
    if not bool((highest - lowest).isfinite().all()):
        return None
    return ((lowest != 0) | (highest != 0)).nonzero().flatten()
