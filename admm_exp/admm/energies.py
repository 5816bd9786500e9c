"""Sums of squares of units, from which a Z/U update and its residuals follow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from admm_exp.admm.groups import ChannelGroup, dims_of, of_units, row_matrix, rows_of
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
        T: Targets, of the same shapes: they become W in some units and T - W in the others,
            without a rounding more.
        groups: Groups that together cover every weight.
        is_w: (n_units,) float32 per group, 1 where T becomes W and 0 elsewhere.
        metric: Scores the T that is left; one that adds up.
        squares: What the last call gave, if T is what it left: T is not summed up again then.

    Returns:
        The sums of every group, and ||T||^2 of every row of the T that is left; None where W and T
        lie in memory in other orders, so that a sum over T could be rounded in another way.
    """
    masks = rows_of(W, groups, is_w)
    if not masks:
        return [], None
    score = None if metric is None else partial(_scored, metric, groups[0])
    matrices = [i for i in masks if W[i].dim() > 1]
    vectors = [i for i in masks if W[i].dim() == 1]
    dims, found = dims_of(groups), _Found(asks_t=squares is None)
    for i in matrices:
        _turn_(W[i], T[i], masks[i], dims[i], score=score, found=found)
    if vectors:
        own = ([x[i] for i in vectors] for x in (W, T, masks))
        _turn_vectors_(*own, score=score, found=found)
    order = matrices + vectors
    w, distance = _squares(found.w), _squares(found.distance)
    t = _squares(found.t) if squares is None else squares
    table = torch.stack([w, t, distance, *([torch.cat(found.score)] if score else [])])
    rows = dict(zip(order, table.split([masks[i].size(0) for i in order], dim=1), strict=True))
    left = None
    if all(W[i].stride() == T[i].stride() for i in matrices):
        left = distance.lerp_(w, torch.cat([masks[i] for i in order]))
    return list(_of_groups(rows, groups)), left


Rows = Sequence[Tensor] | Mapping[int, Tensor]
Score = Callable[[Tensor, int], Tensor] | None


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


@dataclass
class _Found:
    """What is summed up over rows, piece by piece.

    Args:
        asks_t: Whether the norms of T are asked for.
        w: Norms of W.
        t: Norms of T.
        distance: Norms of W - T.
        score: What a metric says of the T that is left.
    """

    asks_t: bool
    w: list[Tensor] = field(default_factory=list)
    t: list[Tensor] = field(default_factory=list)
    distance: list[Tensor] = field(default_factory=list)
    score: list[Tensor] = field(default_factory=list)


def _squares(norms: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(norms)).square_()


def _scored(metric: Metric, group: ChannelGroup, piece: Tensor, dim: int) -> Tensor:
    return metric(row_matrix(piece, dim), group)


def _turn_(w: Tensor, t: Tensor, is_w: Tensor, dim: int, *, score: Score, found: _Found) -> None:
    """Measure every row, turn T, and score it."""
    norm, others = torch.linalg.vector_norm, _others(w, dim)
    shape = [-1 if d == dim else 1 for d in range(w.dim())]
    for own, target, mask in row_pieces(dim, w, t, is_w.view(shape)):
        weight = own.float()
        if found.asks_t:
            found.t.append(norm(target, dim=others))
        found.w.append(norm(weight, dim=others))
        found.distance.append(norm(target.sub_(weight), dim=others))
        target.lerp_(weight, mask)
        if score is not None:
            found.score.append(score(target, dim))


def _turn_vectors_(
    W: Sequence[Tensor], T: Sequence[Tensor], is_w: Sequence[Tensor], *, score: Score, found: _Found
) -> None:
    """Do the same with many vectors at once."""
    w, t = torch.cat(list(W)).float(), torch.cat(list(T))
    found.w.append(w)
    if found.asks_t:
        found.t.append(t.clone())
    found.distance.append(t.sub_(w).clone())
    t.lerp_(w, torch.cat(list(is_w)))
    torch._foreach_copy_(list(T), t.split([own.numel() for own in T]))
    if score is not None:
        found.score.append(score(t, 0))


def _others(weight: Tensor, dim: int) -> tuple[int, ...]:
    return tuple(d for d in range(weight.dim()) if d != dim)


def _side_by_side(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=1)
