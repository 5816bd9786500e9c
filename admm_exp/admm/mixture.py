"""Sums a W + b T, computed where they are read."""

from collections.abc import Iterator, Sequence
from typing import overload

import torch
from torch import Tensor

from admm_exp.admm.pieces import row_pieces


class Mixture(Sequence[Tensor]):
    """X = a W + b T as a list of tensors, none of which is kept.

    Args:
        W: Constrained weights.
        T: Targets, float32, of the same shapes.
        a: One tensor a weight that broadcasts against it; None for 1.
        b: One tensor a weight that broadcasts against it.
    """

    def __init__(
        self,
        W: Sequence[Tensor],
        T: Sequence[Tensor],
        a: Sequence[Tensor] | None,
        b: Sequence[Tensor],
    ) -> None:
        self._parts = [W, T, b] if a is None else [W, T, b, a]

    def __len__(self) -> int:
        return len(self._parts[0])

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return _mixed(*(part[index] for part in self._parts))

    def pieces(self, index: int, dim: int) -> Iterator[Tensor]:
        """Compute one of the tensors in pieces along a dimension, along which a and b vary."""
        return (_mixed(*piece) for piece in row_pieces(dim, *(part[index] for part in self._parts)))


def pieces_along(weights: Sequence[Tensor], index: int, dim: int) -> Iterator[Tensor]:
    """Read one of several tensors in pieces along a dimension."""
    if isinstance(weights, Mixture):
        return weights.pieces(index, dim)
    return (piece for (piece,) in row_pieces(dim, weights[index]))


def _mixed(w: Tensor, t: Tensor, b: Tensor, a: Tensor | None = None) -> Tensor:
    w = w.float()
    return torch.addcmul(w, b, t) if a is None else (a * w).addcmul_(b, t)
