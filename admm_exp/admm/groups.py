"""Channel groups as index arithmetic on a list of tensors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Protocol

import torch
from torch import Tensor


class Units(Protocol):
    """What a metric may know of the units it scores: their name, number and position."""

    @property
    def name(self) -> str:
        """First layer of the group, as a user knows it."""

    @property
    def n_units(self) -> int:
        """Number of units."""

    @property
    def n_kept(self) -> int:
        """Number of units that stay."""

    @property
    def n_blocks(self) -> int:
        """Equal consecutive blocks of units that keep the same count each."""

    @property
    def position(self) -> int:
        """Position of the group in the plan; seeds `random`."""

    @property
    def scale_columns(self) -> tuple[int, ...]:
        """Columns of theta that hold scales (gamma) of norm layers."""


@dataclass(frozen=True)
class Member:
    """The part of one weight that belongs to the units of a channel group.

    Args:
        weight: Position of the weight in the list of constrained weights.
        dim: Channel dimension of that weight.
        rows: (n_units, m) int64, the rows along `dim` owned by each unit; None means row c for
            unit c. m > 1 after a flatten (H*W rows a channel) or for gates (4 rows a unit).
    """

    weight: int
    dim: int
    rows: Tensor | None = None


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that live and die together.

    Args:
        name: First producer's name, as a user knows it.
        n_units: Number of channels.
        n_kept: Number of channels that stay, in [1, n_units] and a multiple of n_blocks.
        members: Producer-side parts, disjoint from those of every other group.
        n_blocks: Equal consecutive blocks of channels that must keep the same count each
            (grouped convolution, group norm).
        position: Position of the group in the plan; seeds `random` and names columns.
        scale_columns: Columns of theta that hold scales (gamma) of norm layers.
    """

    name: str
    n_units: int
    n_kept: int
    members: tuple[Member, ...]
    n_blocks: int = 1
    position: int = 0
    scale_columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_counts(self.name, self.n_units, self.n_kept, self.n_blocks)


def check_counts(name: str, n_units: int, n_kept: int, n_blocks: int) -> None:
    """Check that so many units can stay.

    Raises:
        ValueError: If n_kept is outside [1, n_units] or a count does not divide into the blocks.
    """
    if not 1 <= n_kept <= n_units:
        raise ValueError(f"{name}: n_kept must be in [1, {n_units}], got {n_kept}")
    if n_units % n_blocks or n_kept % n_blocks:
        raise ValueError(
            f"{name}: {n_units} units and {n_kept} kept must both divide into {n_blocks} blocks"
        )


def count_kept(n_units: int, sparsity: float, n_blocks: int = 1, multiple: int = 1) -> int:
    """Count the units that stay: n - floor(sparsity * n) in every block, never below 1.

    The product is rounded at 1e-9 before the floor, so that 0.3 * 10 removes 3 and not 2. With a
    multiple the count then moves to the nearest one (up from halfway) that is not 0; n itself is
    always allowed.

    Args:
        n_units: Number of units.
        sparsity: Fraction to remove, in [0, 1).
        n_blocks: Equal blocks of units that keep the same count each.
        multiple: What the number of kept units should be a multiple of, at least 1.

    Raises:
        ValueError: If sparsity is outside [0, 1) or multiple is below 1.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}")
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, got {multiple}")
    n_block = n_units // n_blocks
    kept = n_blocks * max(1, n_block - int(sparsity * n_block + 1e-9))
    step = lcm(multiple, n_blocks)
    below = kept // step * step
    allowed = [count for count in (below, below + step) if 0 < count < n_units] + [n_units]
    return min(allowed, key=lambda count: (abs(count - kept), -count))


def unit_matrix(weights: Sequence[Tensor], group: ChannelGroup) -> Tensor:
    """Stack theta_g: one row per unit, all its scalars side by side.

    Returns:
        (n_units, p) tensor, p scalars a unit; aliases the weight when the group has one member
        whose channel dimension comes first, so treat it as read-only.
    """
    parts = []
    for member in group.members:
        rows = weights[member.weight].movedim(member.dim, 0)
        if member.rows is not None:
            rows = rows[member.rows.to(rows.device)]
        rows = rows.reshape(group.n_units, -1)
        parts.append(rows)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def unit_parts(weights: Sequence[Tensor], group: ChannelGroup) -> list[Tensor]:
    """Lay theta_g out in parts: (n_units, p) a matrix, and all vectors side by side.

    Returns:
        Parts whose columns stand in the order of the memory; they alias dense weights, so treat
        them as read-only.
    """
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    for member in group.members:
        weight = weights[member.weight]
        rows = row_matrix(weight, member.dim)
        if member.rows is not None:
            rows = rows[member.rows.to(rows.device)].reshape(group.n_units, -1)
        (vectors if weight.dim() == 1 else matrices).append(rows)
    return [*matrices, torch.cat(vectors, dim=1)] if vectors else matrices


def row_matrix(weight: Tensor, dim: int) -> Tensor:
    """Lay the rows of a weight along a dimension out, each in the order of the memory.

    Returns:
        (n_rows, p); aliases a dense weight whose rows lie one by one.
    """
    if dim == 0 and weight.is_contiguous():
        return weight.view(weight.shape[0], -1)
    others = [d for d in range(weight.dim()) if d != dim]
    others.sort(key=weight.stride, reverse=True)
    return weight.permute(dim, *others).reshape(weight.shape[dim], -1)


def dims_of(groups: Sequence[ChannelGroup]) -> dict[int, int]:
    """Find the channel dimension of every weight."""
    return {member.weight: member.dim for group in groups for member in group.members}


def unit_energies(weights: Iterable[Tensor], groups: Sequence[ChannelGroup]) -> tuple[Tensor, ...]:
    """Sum the squares of every unit, in one pass over the weights and without copies of them.

    Args:
        weights: Constrained weights, read once and in order.
        groups: Groups that together cover every weight.

    Returns:
        (n_units,) per group.
    """
    dims, rows = dims_of(groups), []
    for position, weight in enumerate(weights):
        others = tuple(dim for dim in range(weight.dim()) if dim != dims[position])
        norms = torch.linalg.vector_norm(weight, dim=others) if others else weight
        rows.append(norms.square())
    return tuple(
        torch.stack([of_units(rows[member.weight], member) for member in group.members]).sum(dim=0)
        for group in groups
    )


def of_units(rows: Tensor, member: Member) -> Tensor:
    """Add up what the rows of a weight hold for every unit: (.., n_rows) -> (.., n_units)."""
    return rows if member.rows is None else rows[..., member.rows.to(rows.device)].sum(dim=-1)


def spread(
    weights: Sequence[Tensor], groups: Sequence[ChannelGroup], values: Sequence[Tensor]
) -> list[Tensor]:
    """Spread a value of every unit over the weights it owns.

    Args:
        weights: Constrained weights; only their shapes and devices are read.
        groups: Groups that together cover every weight.
        values: (n_units,) per group, of one type.

    Returns:
        Per weight a tensor shaped to broadcast against it, (1, .., n, .., 1); to be read only.
    """
    dims, found = dims_of(groups), rows_of(weights, groups, values)
    assert len(found) == len(weights), "a weight belongs to no group"
    return [
        found[i].view([-1 if d == dims[i] else 1 for d in range(weight.dim())])
        for i, weight in enumerate(weights)
    ]


def rows_of(
    weights: Sequence[Tensor], groups: Sequence[ChannelGroup], values: Sequence[Tensor]
) -> dict[int, Tensor]:
    """Spread a value of every unit over the rows it owns.

    Returns:
        (n_rows,) of every weight, in the order of the groups; to be read only.
    """
    found: dict[int, Tensor] = {}
    for group, own in zip(groups, values, strict=True):
        for member in group.members:
            weight = weights[member.weight]
            if member.rows is None:  # the whole weight is this group's
                found[member.weight] = own.to(weight.device)
                continue
            if member.weight not in found:
                n_rows = weight.shape[member.dim]
                found[member.weight] = weight.new_ones(n_rows, dtype=own.dtype)
            rows = found[member.weight]
            rows[member.rows.to(rows.device)] = own.to(rows.device).unsqueeze(1)
    return found


def row_masks(
    weights: Sequence[Tensor], groups: Sequence[ChannelGroup], support: Sequence[Tensor]
) -> list[Tensor]:
    """Spread the kept units of every group over the weights they own.

    Args:
        weights: Constrained weights; only their shapes and devices are read.
        groups: Groups that together cover every weight.
        support: (n_units,) bool per group, True = kept.

    Returns:
        Per weight a bool mask, shaped to broadcast against it: (1, .., n, .., 1).
    """
    return spread(weights, groups, support)
