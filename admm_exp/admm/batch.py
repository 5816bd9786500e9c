"""Groups of units side by side, so that many small groups cost no more than a large one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from admm_exp.admm.energies import Energies

MANY_UNITS = 2**16


@dataclass(frozen=True)
class Batch:
    """Consecutive groups of units before their Z- and U-step.

    Args:
        sizes: Number of units of every group; the tensors hold all of them, (n_units,) each.
        energies: Of W and of T.
        before: Which units were kept, bool.
        a: Share of W in X = a W + b T.
        b: Share of T.
    """

    sizes: list[int]
    energies: Energies
    before: Tensor
    a: Tensor
    b: Tensor

    def x(self) -> Tensor:
        """Compute ||X||^2 of every unit."""
        return self.energies.of(self.a, self.b)

    def u(self, dual_step: float) -> Tensor:
        """Compute ||U + c (X - U)||^2 of every unit."""
        return self.energies.of(*self.dual_shares(dual_step))

    def dual_shares(self, dual_step: float) -> tuple[Tensor, Tensor]:
        """Write U + c (X - U) of every unit as a W + b T: U is -T on the units removed before."""
        if dual_step == 1.0:
            return self.a, self.b
        b = dual_step * self.b - (1.0 - dual_step) * (~self.before).float()
        return dual_step * self.a, b


def batched(
    energies: Sequence[Energies], support: Sequence[Tensor], relaxation: float, follows: bool
) -> list[Batch]:
    """Put groups side by side until there are many units.

    T is Z on the units that were kept, -U on the others.

    Args:
        energies: Of every group.
        support: (n_units,) bool per group, True = kept before the step.
        relaxation: A, over-relaxation in (0, 2); 1 is none.
        follows: Whether Z of the kept units followed W.
    """
    batches = []
    for own in _slices([len(kept) for kept in support]):
        before = _joined(support[own])
        found = _joined_energies(energies[own])
        a, b = torch.full_like(before, relaxation, dtype=torch.float32), before.float() - 1.0
        if follows:
            found, a = found.where_t_is_w(before), a.masked_fill(before, 1.0)
        else:
            b = b.masked_fill(before, 1.0 - relaxation)
        batches.append(Batch([len(kept) for kept in support[own]], found, before, a, b))
    return batches


def by_group(batches: Sequence[Batch], values: Sequence[Tensor]) -> list[Tensor]:
    """Take values of every unit apart, one tensor a group."""
    pairs = zip(batches, values, strict=True)
    return [own for batch, found in pairs for own in found.split(batch.sizes)]


def by_batch(batches: Sequence[Batch], values: Sequence[Tensor]) -> list[Tensor]:
    """Put values of every unit, one tensor a group, side by side."""
    of_groups = iter(values)
    return [_joined([next(of_groups) for _ in batch.sizes]) for batch in batches]


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends, n = [], 0
    for position, size in enumerate(sizes):
        n += size
        if n > MANY_UNITS or position == len(sizes) - 1:
            ends.append(position + 1)
            n = 0
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _joined_energies(energies: Sequence[Energies]) -> Energies:
    sums = zip(*((own.w, own.t, own.distance) for own in energies), strict=True)
    w, t, distance = map(_joined, sums)
    scores = [own.score for own in energies if own.score is not None]
    return Energies(w, t, distance, _joined(scores) if scores else None)
