"""Sums of squares of units, from which a Z/U update and its residuals follow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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
    *,
    metric: Metric | None = None,
    squares: Tensor | None = None,
) -> tuple[list[Energies], Tensor | None]:
    """Measure the units of channel groups, and turn T in the same pass over it.

    Args:
        W: Constrained weights.
        T: Targets, of the same shapes: they become W where `is_w` is 1 and T - W where it is 0,
            without a rounding more.
        groups: Groups that together cover every weight.
        is_w: One tensor of 0 and 1 a weight that broadcasts against it.
        metric: Scores the T that is left; one that adds up.
        squares: What the last call gave, if T is what it left: T is not summed up again then.

    Returns:
        The sums of every group, and ||T||^2 of every row of the T that is left; None where W and T
        lie in memory in other orders, so that a sum over T could be rounded in another way.
    """
    dims = dims_of(groups)
    if not dims:
        return [], None

    def score(piece: Tensor, dim: int) -> list[Tensor]:
        return [] if metric is None else [metric(row_matrix(piece, dim), groups[0])]

    order = sorted(dims, key=lambda i: W[i].dim() == 1)  # matrices, then vectors
    sizes = [W[i].shape[dims[i]] for i in order]
    table = T[0].new_empty(3 if metric is None else 4, sum(sizes))
    rows = dict(zip(order, table.split(sizes, dim=1), strict=True))
    n_vectors = sum(W[i].dim() == 1 for i in order)
    for i in order[: len(order) - n_vectors]:
        out = _Rows(rows[i], squares is None)
        _turn_(W[i], T[i], is_w[i], dims[i], score=score, out=out)
    if n_vectors:
        w, t, mask = ([x[i] for i in order[-n_vectors:]] for x in (W, T, is_w))
        out = _Rows(table[:, -sum(map(len, t)) :], squares is None)
        _turn_vectors_(w, t, mask, score=score, out=out)
    table[:3].square_()
    if squares is not None:
        table[1].copy_(squares)
    left = None
    if all(W[i].stride() == T[i].stride() for i in order):
        becomes_w = torch.cat([is_w[i].reshape(-1) for i in order]).bool()
        left = torch.where(becomes_w, table[0], table[2])
    return list(_of_groups(rows, groups)), left


Rows = Sequence[Tensor] | Mapping[int, Tensor]
Score = Callable[[Tensor, int], list[Tensor]]


def _of_groups(rows: Rows, groups: Sequence[ChannelGroup]) -> Iterator[Energies]:
    for group in groups:
        parts = [of_units(rows[member.weight], member) for member in group.members]
        yield Energies(*torch.stack(parts).sum(dim=0).unbind())


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


class _Rows(NamedTuple):
    """Where to write what is summed up over rows.

    Args:
        table: (3 or 4, n_rows): norms of W, T and W - T, and the score if there is one.
        asks_t: Whether the norms of T are asked for.
    """

    table: Tensor
    asks_t: bool


def _turn_(w: Tensor, t: Tensor, is_w: Tensor, dim: int, *, score: Score, out: _Rows) -> None:
    """Measure every row, turn T, and score it."""
    norm, others, start = torch.linalg.vector_norm, _others(w, dim), 0
    for own, target, mask in row_pieces(dim, w, t, is_w):
        weight, end = own.float(), start + own.shape[dim]
        of_w, of_t, of_both, *of_score = out.table[:, start:end].unbind()
        norm(weight, dim=others, out=of_w)
        if out.asks_t:
            norm(target, dim=others, out=of_t)
        norm(target.sub_(weight), dim=others, out=of_both)
        target.lerp_(weight, mask)
        for place, found in zip(of_score, score(target, dim), strict=True):
            place.copy_(found)
        start = end


def _turn_vectors_(
    W: Sequence[Tensor], T: Sequence[Tensor], is_w: Sequence[Tensor], *, score: Score, out: _Rows
) -> None:
    """Do the same with many vectors at once."""
    w, t = torch.cat(list(W)).float(), torch.cat(list(T))
    of_w, of_t, of_both, *of_score = out.table.unbind()
    of_w.copy_(w)
    if out.asks_t:
        of_t.copy_(t)
    of_both.copy_(t.sub_(w))
    sizes = [len(own) for own in T]
    torch._foreach_copy_(list(T), list(t.lerp_(w, torch.cat(list(is_w))).split(sizes)))
    for place, found in zip(of_score, score(t, 0), strict=True):
        place.copy_(found)


def _others(weight: Tensor, dim: int) -> tuple[int, ...]:
    return tuple(d for d in range(weight.dim()) if d != dim)


def _side_by_side(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=1)
