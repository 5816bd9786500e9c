"""What can be pruned: channel groups with the scalars that belong to their units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, lcm
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from admm_exp.admm.groups import count_kept
from admm_exp.pruning.dependency.traced import Site

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
class Steps:
    """How groups shrink whose sizes the code of a network compares.

    Args:
        groups: Names of the groups.
        producers: Layers of all of them.
        n_steps: Equal steps in which each of them shrinks, all by the same number of steps.
        widths: Channels of every group that go at a step.
    """

    groups: tuple[str, ...]
    producers: tuple[str, ...]
    n_steps: int
    widths: tuple[int, ...]


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
        steps: How it shrinks with other groups, or None.
        example: Inputs on which constants are measured that removed channels leave behind; None
            where they leave zeros.
    """

    name: str
    producers: tuple[str, ...]
    n_units: int
    n_blocks: int
    parts: tuple[tuple[str, int, Tensor], ...]
    sites: tuple[Site, ...] = ()
    steps: Steps | None = None
    example: Any = None

    @property
    def all_producers(self) -> tuple[str, ...]:
        """Names of the layers whose channels shrink together, other groups included."""
        return self.producers if self.steps is None else self.steps.producers

    @property
    def width(self) -> int:
        """Channels of a unit: 1, or more where no layer tells them apart, as in attention heads."""
        sites = [site for site in self.sites if not site.is_size]
        counts = [site.unit_of.bincount() for site in sites]
        return gcd(*(n for count in counts for n in count.tolist())) or 1

    def multiple(self, channel_multiple: int) -> int:
        """Find the multiple of units that is a multiple of so many channels."""
        if self.steps is None:
            return channel_multiple // gcd(channel_multiple, self.width)
        asked = [channel_multiple // gcd(channel_multiple, width) for width in self.steps.widths]
        return self.n_units // self.steps.n_steps * lcm(*asked)

    def count_kept(self, sparsity: float, channel_multiple: int = 1) -> int:
        """Count the units that stay.

        Args:
            sparsity: Fraction of the units that goes, in [0, 1).
            channel_multiple: The kept channels are rounded to a multiple of this.
        """
        multiple = self.multiple(channel_multiple)
        if self.steps is None:
            return count_kept(self.n_units, sparsity, self.n_blocks, multiple)
        size = self.n_units // self.steps.n_steps
        return size * count_kept(self.steps.n_steps, sparsity, 1, multiple // size)


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


def in_step(
    groups: Sequence[PrunableGroup], matches: Mapping[str, Sequence[str]]
) -> list[PrunableGroup]:
    """Let groups shrink in step that match each other, directly or through others.

    Args:
        groups: Prunable groups.
        matches: Names of the groups that a group may have to shrink with.
    """
    sets: list[list[PrunableGroup]] = []
    for group in groups:
        near = [s for s in sets if any(g.name in matches[group.name] for g in s)]
        sets = [s for s in sets if s not in near] + [[g for s in near for g in s] + [group]]
    steps = {group.name: _steps(members) for members in sets for group in members}
    return [replace(group, steps=steps[group.name]) for group in groups]


def _steps(groups: Sequence[PrunableGroup]) -> Steps | None:
    n_steps = gcd(*(group.n_units // group.n_blocks for group in groups))
    if len(groups) == 1 or n_steps == 1:
        return None
    return Steps(
        groups=tuple(group.name for group in groups),
        producers=tuple(name for group in groups for name in group.producers),
        n_steps=n_steps,
        widths=tuple(group.n_units // n_steps * group.width for group in groups),
    )


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
    parameters = dict(model.named_parameters(remove_duplicate=False))
    covered: dict[tuple[str, int], list[Tensor]] = {}
    for group in groups:
        for name, dim, rows in group.parts:
            covered.setdefault((name, dim), []).append(rows)
    slices, runs = [], dict[tuple[int, ...], list[tuple[int, int]]]()
    for (name, dim), parts in covered.items():
        size = parameters[name].shape[dim]
        asked = (size, *map(id, parts))  # most parameters share their rows with others
        if asked not in runs:
            runs[asked] = _runs(parts, size)
        slices += [Slice(name, dim, i, j - i, j - i == size) for i, j in runs[asked]]
    return slices


def _runs(parts: Sequence[Tensor], size: int) -> list[tuple[int, int]]:
    """List the first rows of all runs of rows, and those behind their last."""
    is_covered = torch.zeros(size, dtype=torch.bool)
    for rows in parts:
        is_covered[rows.flatten()] = True
    edges = pad(is_covered.int(), (1, 1)).diff().nonzero().flatten().tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
