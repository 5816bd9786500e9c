"""Sums of squares of units, from which a Z/U update and its residuals follow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from admm_exp.admm.groups import ChannelGroup, dims_of, of_units
from admm_exp.admm.pieces import row_pieces

Coefficient = Tensor | float


@dataclass(frozen=True)
class Energies:
    """||W||^2, ||T||^2 and ||W - T||^2 of the units of a group, (n_units,) each."""

    w: Tensor
    t: Tensor
    distance: Tensor

    def of(self, a: Coefficient, b: Coefficient) -> Tensor:
        """Compute ||a W + b T||^2 of every unit; nothing cancels where a + b or b is 0.

        Args:
            a: A number, or one a unit.
            b: A number, or one a unit.
        """
        both = a + b
        return (a * both * self.w + b * both * self.t - a * b * self.distance).clamp_min(0.0)

    def where_t_is_w(self, is_w: Tensor) -> "Energies":
        """Replace T by W in some units.

        Args:
            is_w: (n_units,) bool.
        """
        return Energies(
            self.w, torch.where(is_w, self.w, self.t), self.distance.masked_fill(is_w, 0.0)
        )


def channel_energies(
    W: Sequence[Tensor], T: Sequence[Tensor], groups: Sequence[ChannelGroup]
) -> Iterator[Energies]:
    """Measure the units of channel groups in one pass over W and T, without copies of them.

    Args:
        W: Constrained weights.
        T: Targets, of the same shapes.
        groups: Groups that together cover every weight.
    """
    dims = dims_of(groups)
    rows = [_row_energies(w, t, dims[i]) for i, (w, t) in enumerate(zip(W, T, strict=True))]
    for group in groups:
        parts = [of_units(rows[member.weight], member) for member in group.members]
        yield Energies(*torch.stack(parts).sum(dim=0))


def _row_energies(w: Tensor, t: Tensor, dim: int) -> Tensor:
    """Sum the squares of W, T and W - T over every row: (3, n_rows)."""
    if w.dim() == 1:
        w = w.float()
        return torch.stack([w, t, w - t]).square_()
    others = tuple(d for d in range(w.dim()) if d != dim)
    norm, pieces = torch.linalg.vector_norm, []
    for own, target in row_pieces(dim, w, t):
        weight = own.float()
        tensors = (weight, target, weight - target)
        pieces.append(torch.stack([norm(tensor, dim=others) for tensor in tensors]))
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)).square_()
