"""Rows of tensors that belong to channels, while a network runs."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from admm_exp.pruning.dependency.traced import NOWHERE


@dataclass(frozen=True)
class Rows:
    """The rows of one tensor of a layer along one dimension, with the unit that owns each.

    Args:
        layer: Name of the layer.
        tensor: Name of its parameter or buffer.
        dim: Dimension of the rows.
        codes: (n,) code of every row.
        is_unit: Whether the rows belong to the units, and not only read their channels.
        n_blocks: Blocks of a grouped convolution; its columns are counted over all of them.
        is_count: Whether these are no rows but what a norm or mean of that name counts.
        is_constant: Whether the rows are numbers of a buffer that are zero where units are.
        fold: Behind what the channels are constants, once removed, that a bias can hold; empty
            where they are zero.
        is_size: Whether these are no rows but what an attribute of that name counts.
    """

    layer: str
    tensor: str
    dim: int
    codes: Tensor
    is_unit: bool
    n_blocks: int = 1
    is_count: bool = False
    is_size: bool = False
    is_constant: bool = False
    fold: str = ""

    @property
    def name(self) -> str:
        """Name of the tensor in the network."""
        return f"{self.layer}.{self.tensor}" if self.layer else self.tensor


def by_group(groups: Tensor) -> Iterator[tuple[int, Tensor]]:
    """List the groups that the rows of a tensor belong to, each with its rows in order.

    Args:
        groups: (n,) the group of every row, -1 for none.
    """
    order = groups.argsort(stable=True)
    values, counts = groups[order].unique_consecutive(return_counts=True)
    for value, rows in zip(values.tolist(), order.split(counts.tolist()), strict=True):
        if value != NOWHERE:
            yield value, rows
