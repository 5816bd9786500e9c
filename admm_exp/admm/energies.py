"""Sums of squares of units, from which a Z/U update and its residuals follow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from admm_exp.admm.groups import ChannelGroup, dims_of, of_units, row_matrix
from admm_exp.admm.metrics import Metric
from admm_exp.admm.pieces import row_pieces

Coefficient = Tensor | float


@dataclass(frozen=True)
class Energies:
    """Sums over the units of a group, (n_units,) each.

    Args:
        w: ||W||^2.
        t: ||T||^2.
        distance: ||W - T||^2.
        score: What a metric that adds up says of the T that the pass left; None if not asked.
    """

    w: Tensor
    t: Tensor
    distance: Tensor
    score: Tensor | None = None

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
        t = torch.where(is_w, self.w, self.t)
        return replace(self, t=t, distance=self.distance.masked_fill(is_w, 0.0))


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
    rows = [_measured(w, t, dims[i]) for i, (w, t) in enumerate(zip(W, T, strict=True))]
    return _of_groups(rows, groups)


def turned_energies(
    W: Sequence[Tensor],
    T: Sequence[Tensor],
    groups: Sequence[ChannelGroup],
    is_w: Sequence[Tensor],
    metric: Metric | None = None,
) -> Iterator[Energies]:
    """Measure the units of channel groups, and turn T in the same pass over it.

    Args:
        W: Constrained weights.
        T: Targets, of the same shapes: they become W where `is_w` is 1 and T - W where it is 0,
            without a rounding more.
        groups: Groups that together cover every weight.
        is_w: One tensor of 0 and 1 a weight that broadcasts against it.
        metric: Scores the T that is left; one that adds up.
    """
    dims = dims_of(groups)

    def score(piece: Tensor, dim: int) -> list[Tensor]:
        return [] if metric is None else [metric(row_matrix(piece, dim), groups[0])]

    vectors = [i for i, w in enumerate(W) if w.dim() == 1]
    rows = {i: _turned(W[i], T[i], is_w[i], dims[i], score) for i in dims if i not in vectors}
    if vectors:
        w, t, mask = ([x[i] for i in vectors] for x in (W, T, is_w))
        rows |= zip(vectors, _turned_vectors(w, t, mask, score), strict=True)
    return _of_groups(rows, groups)


Rows = Sequence[Tensor] | Mapping[int, Tensor]
Score = Callable[[Tensor, int], list[Tensor]]


def _of_groups(rows: Rows, groups: Sequence[ChannelGroup]) -> Iterator[Energies]:
    for group in groups:
        parts = [of_units(rows[member.weight], member) for member in group.members]
        yield Energies(*torch.stack(parts).sum(dim=0))


def _measured(w: Tensor, t: Tensor, dim: int) -> Tensor:
    """Sum the squares of W, T and W - T over every row: (3, n_rows)."""
    if w.dim() == 1:
        w = w.float()
        return torch.stack([w, t, w - t]).square_()
    norm, others, pieces = torch.linalg.vector_norm, _others(w, dim), []
    for own, target in row_pieces(dim, w, t):
        weight = own.float()
        tensors = (weight, target, weight - target)
        pieces.append(torch.stack([norm(tensor, dim=others) for tensor in tensors]))
    return _side_by_side(pieces).square_()


def _turned(w: Tensor, t: Tensor, is_w: Tensor, dim: int, score: Score) -> Tensor:
    """Do the same, turn T, and score it: (3 or 4, n_rows)."""
    norm, others, pieces = torch.linalg.vector_norm, _others(w, dim), []
    for own, target, mask in row_pieces(dim, w, t, is_w):
        weight = own.float()
        norms = [norm(weight, dim=others), norm(target, dim=others)]
        norms.append(norm(target.sub_(weight), dim=others))
        target.lerp_(weight, mask.expand_as(weight))
        pieces.append(torch.stack([*norms, *score(target, dim)]))
    rows = _side_by_side(pieces)
    rows[:3].square_()
    return rows


def _turned_vectors(
    W: Sequence[Tensor], T: Sequence[Tensor], is_w: Sequence[Tensor], score: Score
) -> Sequence[Tensor]:
    """Do the same with many vectors at once."""
    w, t = torch.cat(list(W)).float(), torch.cat(list(T))
    squares = torch.stack([w, t, w - t]).square_()
    sizes = [len(own) for own in T]
    torch._foreach_copy_(list(T), list(t.sub_(w).lerp_(w, torch.cat(list(is_w))).split(sizes)))
    rows = torch.cat([squares, *(own.unsqueeze(0) for own in score(t, 0))])
    return rows.split(sizes, dim=1)


def _others(weight: Tensor, dim: int) -> tuple[int, ...]:
    return tuple(d for d in range(weight.dim()) if d != dim)


def _side_by_side(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=1)
