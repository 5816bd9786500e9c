"""How a Z/U update goes over W and T: in one pass where X = W + U, in two otherwise."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from admm_exp.admm.batch import Batch, by_batch, by_group
from admm_exp.admm.energies import Energies
from admm_exp.admm.mixture import Mixture
from admm_exp.admm.pieces import pieces_of
from admm_exp.admm.projection import Constraint, best_units


class Passes(Protocol):
    """What is read from W and T, and what is written to T.

    Attributes:
        energies: Of W and of T, as they were given, one record a group.
        squares: What is known of the T that is written, for the next update.
    """

    energies: list[Energies]
    squares: Tensor | None

    def select(self, batches: Sequence[Batch]) -> tuple[Tensor, ...]:
        """Choose the units of X that stay by the metric: (n_units,) bool per group."""

    def write(self, batches: Sequence[Batch], support: Sequence[Tensor]) -> None:
        """Let T be Z - U of the units that are kept now, (n_units,) bool per group."""


class OnePass:
    """X = W on the units that were kept, and W + U on the others.

    While W and T are measured, T becomes X or, where U was, -X: that is what it has to be after the
    step, except on the units that come or go, whose sign changes.

    Args:
        W: Constrained weights.
        T: Targets; overwritten.
        constraint: Groups and metric.
        support: (n_units,) bool per group, True = kept before.
        squares: What the update that wrote T knows of it, if anything.
    """

    def __init__(
        self,
        W: Sequence[Tensor],
        T: Sequence[Tensor],
        constraint: Constraint,
        support: Sequence[Tensor],
        squares: Tensor | None = None,
    ) -> None:
        self.energies, self.squares = constraint.turn_(W, T, support, squares)
        self._targets, self._constraint, self._is_x = T, constraint, support

    def select(self, batches: Sequence[Batch]) -> tuple[Tensor, ...]:
        """Choose the units of X that stay by the metric."""
        scores = [score for own in batches if (score := own.energies.score) is not None]
        if scores:
            return best_units(by_group(batches, scores), self._constraint.groups)
        signs = [2.0 * own.float() - 1.0 for own in self._is_x]
        found = self._constraint.select_signed(self._targets, signs)
        if found is not None:
            return found
        self._sign_([torch.ones_like(own) for own in self._is_x])
        return self._constraint.select(self._targets)

    def write(self, batches: Sequence[Batch], support: Sequence[Tensor]) -> None:
        """Change the sign of the units that come or go."""
        self._sign_(support)

    def _sign_(self, is_x: Sequence[Tensor]) -> None:
        pairs = list(zip(self._is_x, is_x, strict=True))
        self._is_x = is_x
        if all(own.is_cpu and torch.equal(own, new) for own, new in pairs):
            return
        signs = [1.0 - 2.0 * (own ^ new) for own, new in pairs]
        factors = self._constraint.spread(self._targets, signs)
        places = [i for i, f in enumerate(factors) if not f.is_cpu or bool((f < 0.0).any())]
        targets = [self._targets[i] for i in places]
        for t, factor in pieces_of(targets, _like(targets, [factors[i] for i in places])):
            torch._foreach_mul_(t, factor)


class TwoPasses:
    """X = a W + (1 - a) Z_old + U: one pass measures, another one writes.

    Args:
        W: Constrained weights.
        T: Targets; overwritten.
        constraint: Groups and metric.
        dual_step: C of U + c (X - U), what U becomes where Z is 0.
    """

    def __init__(
        self, W: Sequence[Tensor], T: Sequence[Tensor], constraint: Constraint, dual_step: float
    ) -> None:
        self.energies = constraint.energies_with(W, T)
        self.squares: Tensor | None = None
        self._weights, self._targets, self._constraint = W, T, constraint
        self._dual_step = dual_step

    def select(self, batches: Sequence[Batch]) -> tuple[Tensor, ...]:
        """Choose the units of X that stay by the metric; X is computed where it is read."""
        a, b = (self._spread(batches, own) for own in _shares(batches))
        return self._constraint.select(Mixture(self._weights, self._targets, a, b))

    def write(self, batches: Sequence[Batch], support: Sequence[Tensor]) -> None:
        """Turn T into Z on the kept units and -U on the others."""
        kept = by_batch(batches, support)
        shares = [
            [torch.where(own, z, -u) for own, z, u in zip(kept, of_z, of_u, strict=True)]
            for of_z, of_u in zip(_shares(batches), _shares(batches, self._dual_step), strict=True)
        ]
        T, W = self._targets, self._weights
        a, b = (_like(T, self._spread(batches, own)) for own in shares)
        for t, w, t_share, w_share in pieces_of(T, W, b, a):
            torch._foreach_mul_(t, t_share)
            torch._foreach_addcmul_(t, w, w_share)

    def _spread(self, batches: Sequence[Batch], values: Sequence[Tensor]) -> list[Tensor]:
        return self._constraint.spread(self._weights, by_group(batches, values))


def _shares(batches: Sequence[Batch], dual_step: float = 1.0) -> tuple[list[Tensor], list[Tensor]]:
    pairs = [batch.dual_shares(dual_step) for batch in batches]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _like(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
    return [value.expand_as(t) for value, t in zip(values, tensors, strict=True)]
