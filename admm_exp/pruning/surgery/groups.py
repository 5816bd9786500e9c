"""What can be pruned: channel groups with the scalars that belong to their units."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from admm_exp.admm.groups import count_kept
from admm_exp.pruning.dependency.graph import NOWHERE, Site

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Slice:
    """Rows [start, start + length) of one parameter along its channel dimension.

    Args:
        parameter: Name of the parameter in the network.
        dim: Channel dimension.
        start: First row.
        length: Number of rows.
        is_whole: Whether that is the whole parameter.
    """

    parameter: str
    dim: int
    start: int
    length: int
    is_whole: bool

    def of(self, tensor: Tensor) -> Tensor:
        """View the slice in the parameter, or in a tensor shaped like it."""
        return tensor if self.is_whole else tensor.narrow(self.dim, self.start, self.length)

    def local(self, rows: Tensor) -> Tensor | None:
        """Count rows of the parameter, (n_units, m), from the slice's first; None if one by one."""
        local, in_order = rows - self.start, torch.arange(self.length)
        is_in_order = local.shape == (self.length, 1) and torch.equal(local[:, 0], in_order)
        return None if is_in_order else local


@dataclass(frozen=True)
class PrunableGroup:
    """A channel group that can be pruned.

    Args:
        name: Name of the first producer.
        producers: Names of all layers that make the channels, tied into the group, in the order
            in which the network holds them.
        n_units: Number of channels.
        n_blocks: Blocks of channels that must keep the same count each.
        parts: (parameter name, channel dimension, (n_units, m) rows) of the units.
        sites: Everything that is cut with the channels, also what only reads them.
    """

    name: str
    producers: tuple[str, ...]
    n_units: int
    n_blocks: int
    parts: tuple[tuple[str, int, Tensor], ...]
    sites: tuple[Site, ...] = ()

    @property
    def width(self) -> int:
        """Channels of a unit: 1, or more where no layer tells them apart, as in attention heads."""
        counts = [site.units[site.units != NOWHERE].bincount() for site in self.sites]
        return gcd(*(n for count in counts for n in count.tolist())) or 1

    def multiple(self, channel_multiple: int) -> int:
        """Find the multiple of units that is a multiple of so many channels."""
        return channel_multiple // gcd(channel_multiple, self.width)

    def count_kept(self, sparsity: float, channel_multiple: int = 1) -> int:
        """Count the units that stay.

        Args:
            sparsity: Fraction of the units that goes, in [0, 1).
            channel_multiple: The kept channels are rounded to a multiple of this.
        """
        multiple = self.multiple(channel_multiple)
        return count_kept(self.n_units, sparsity, self.n_blocks, multiple)


@dataclass(frozen=True)
class KeptGroup:
    """A channel group that stays whole, and why."""

    name: str
    producers: tuple[str, ...]
    n_units: int
    reason: str


@dataclass(frozen=True)
class Prunable:
    """What of a network can be pruned, and what stays whole."""

    groups: tuple[PrunableGroup, ...]
    kept: tuple[KeptGroup, ...]


def scale_columns(model: nn.Module, group: PrunableGroup) -> tuple[int, ...]:
    """List the columns of a group's unit matrix that hold scales (gamma) of norm layers."""
    columns: list[int] = []
    width = 0
    for name, dim, rows in group.parts:
        parameter = model.get_parameter(name)
        n_columns = parameter.numel() // parameter.shape[dim] * rows.shape[1]
        layer, _, leaf = name.rpartition(".")
        if leaf == "weight" and isinstance(model.get_submodule(layer), NORMS):
            columns += range(width, width + n_columns)
        width += n_columns
    return tuple(columns)


def slices_of(model: nn.Module, groups: Sequence[PrunableGroup]) -> list[Slice]:
    """List the slices of parameters that the groups constrain, each exactly once.

    A parameter is split only where some of its rows belong to no group (a norm layer behind a
    concatenation with an unprunable branch).
    """
    covered: dict[tuple[str, int], Tensor] = {}
    for group in groups:
        for name, dim, rows in group.parts:
            size = model.get_parameter(name).shape[dim]
            mask = covered.setdefault((name, dim), torch.zeros(size, dtype=torch.bool))
            mask[rows.flatten()] = True
    slices = []
    for (name, dim), mask in covered.items():
        edges = pad(mask.int(), (1, 1)).diff().nonzero().flatten().tolist()
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            slices.append(Slice(name, dim, start, stop - start, stop - start == len(mask)))
    return slices
