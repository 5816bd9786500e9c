"""Rows of a weight, standardised with the moments of columns that are no longer there.

A convolution that standardises its weight divides what an output channel reads by its spread. A
removed input adds nothing to the outputs, but its column was a part of the mean and the spread of
the columns that are left. With s and q the sums of w and w^2 over m removed entries of a row, and
n entries before,

    mean = (sum(w) + s) / n      variance = (sum((w - mean)^2) + q - 2 mean s + m mean^2) / n

are those of the network that still holds the column.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

STANDARDISES = "batch_norm"
"""The function that does it."""
KEY = f"{STANDARDISES} -1"
"""How a layer names the number of entries that a row had."""
MOMENTS = "removed_moments"
"""Buffer of (2, rows) sums and sums of squares of what rows have lost."""


@torch.no_grad()
def moments_without(
    module: Any, weight: Tensor, rows: Tensor, columns: Tensor, n_blocks: int
) -> Tensor:
    """Sum up what the rows that stay lose, and have lost before.

    Args:
        module: A convolution.
        weight: (rows, columns a block, ...) before anything is cut.
        rows: (rows,) bool, True = kept.
        columns: (columns,) bool over all blocks, True = kept.
        n_blocks: Blocks of a grouped convolution.

    Returns:
        (2, kept rows).
    """
    is_gone = ~columns.to(weight.device).view(n_blocks, -1)
    is_gone = is_gone.repeat_interleave(len(weight) // n_blocks, 0).to(weight.dtype)
    gone = weight.flatten(2) * is_gone.unsqueeze(2)
    moments = torch.stack([gone.sum((1, 2)), gone.square().sum((1, 2))])
    before = getattr(module, MOMENTS, None)
    moments = moments if before is None else moments + before
    return moments.index_select(1, rows.nonzero().flatten().to(weight.device))


def is_of_rows(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a batch norm standardises the rows of a weight."""
    return args[0].dim() == 3 and len(args[0]) == 1 and bool(kwargs.get("training"))


def standardised_rows(
    moments: Tensor,
    n: int,
    rows: Tensor,
    running_mean: None,
    running_var: None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.0,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise rows with what they have lost.

    Args:
        moments: (2, rows) sums and sums of squares of what is gone.
        n: Entries that a row had.
        rows: (1, rows, entries) that are left.
        running_mean: Not there.
        running_var: Not there.
        weight: (rows,) scale, or None.
        bias: (rows,) added, or None.
        training: As it has to be.
        momentum: Of no use without running statistics.
        eps: Added to the variance.
    """
    sums, squares = moments
    mean = (rows.sum(2) + sums) / n
    gone = squares - 2.0 * mean * sums + (n - rows.shape[2]) * mean.square()
    variance = ((rows - mean.unsqueeze(2)).square().sum(2) + gone.clamp_min(0.0)) / n
    scale = (variance + eps).rsqrt()
    outputs = (rows - mean.unsqueeze(2)) * (scale if weight is None else scale * weight).unsqueeze(
        2
    )
    return outputs if bias is None else outputs + bias.unsqueeze(1)
