"""Channel groups as they were traced: sites in tensors, and code that takes channels apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

NOWHERE = -1


@dataclass(frozen=True)
class Site:
    """Rows of one parameter or buffer that the channels of a group own or read.

    Args:
        layer: Name of the layer.
        tensor: Name of its parameter or buffer.
        dim: Dimension of the rows.
        is_unit: Whether the rows are scalars of the units; otherwise they only read them.
        n_rows: Rows of the tensor, those of other groups included: a layer behind a long
            concatenation reads hundreds of groups.
        rows: (m,) those of this group, ascending.
        unit_of: (m,) the unit of each of them.
        n_blocks: Blocks of a grouped convolution whose columns these are.
        is_count: Whether these are no rows but the channels that the norm or mean `tensor` counts.
        is_constant: Whether the rows are numbers of a buffer that are zero where units are.
        fold: Behind what the channels are constants, once removed, that a bias can hold; empty
            where they are zero.
        is_size: Whether these are no rows but the channels that the attribute `tensor` counts.
    """

    layer: str
    tensor: str
    dim: int
    is_unit: bool
    n_rows: int
    rows: Tensor
    unit_of: Tensor
    n_blocks: int
    is_count: bool = False
    is_size: bool = False
    is_constant: bool = False
    fold: str = ""

    @property
    def name(self) -> str:
        """Name of the tensor in the network."""
        return f"{self.layer}.{self.tensor}" if self.layer else self.tensor

    @property
    def units(self) -> Tensor:
        """The unit of every row of the tensor, (n,), -1 for rows of other groups."""
        return torch.full((self.n_rows,), NOWHERE).index_copy_(0, self.rows, self.unit_of)

    def lost(self, gone: Tensor) -> Tensor:
        """List the rows that go with the units that are gone.

        Args:
            gone: (n_units,) bool on the CPU, True = removed.
        """
        return self.rows[gone[self.unit_of]]


@dataclass(frozen=True)
class Split:
    """Where channels are taken apart.

    Args:
        layer: Name and kind of the layer.
        line: The line of its code, or None where it has none of its own.
    """

    layer: str
    line: str | None

    @property
    def name(self) -> str:
        """Name of the layer."""
        return "" if self.layer.startswith("the ") else self.layer.partition(" ")[0]

    @property
    def kind(self) -> str:
        """Kind of the layer, whose code may count on a size."""
        return self.layer.rpartition(" ")[2]

    def __str__(self) -> str:
        """Say it in a sentence."""
        return f"{self.layer} takes its channels apart" + (f" in {self.line}" if self.line else "")


@dataclass(frozen=True)
class TracedGroup:
    """Channels that can only be removed together.

    Args:
        name: Name of the first producer, with its parameter if it makes channels twice.
        producers: Layers that make the channels, in the order of the network.
        n_units: Number of channels.
        n_blocks: Blocks of channels that must keep the same count each.
        sites: Everything that is cut with the channels.
        splits: Where the channels are taken apart by a reshape or a split.
        choices: Layers that could keep them apart along another dimension.
        matches: Groups that may have to shrink in step: a reshape counts these channels, in code
            that may have read the number off theirs.
        reason: Why the group has to stay whole, or None.
    """

    name: str
    producers: tuple[str, ...]
    n_units: int
    n_blocks: int
    sites: tuple[Site, ...]
    splits: tuple[Split, ...] = ()
    choices: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    reason: str | None = None
