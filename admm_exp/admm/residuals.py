"""Residuals of a Z/U update, and what a cut would cost now, from sums over units."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from admm_exp.admm.convergence import GroupResiduals, Residuals
from admm_exp.admm.energies import Energies
from admm_exp.admm.projection import best_units

if TYPE_CHECKING:
    from admm_exp.admm.projection import Constraint

EPS_ABS = 1e-4
EPS_REL = 1e-2
MANY_UNITS = 2**16


class Sums(NamedTuple):
    """Sums over units, of one group or of all.

    Args:
        primal: ||W - Z||^2.
        delta_z: ||Z - Z_old||^2.
        w: ||W||^2.
        z: ||Z||^2.
        u: ||U||^2.
        dead: What of ||W||^2 a cut would remove.
        cut: What of ||X||^2 the projection removed.
        cut_nearest: The same of the Euclidean projection.
        x: ||X||^2.
        both: Units kept before and after.
        either: Units kept before or after.
    """

    primal: float
    delta_z: float
    w: float
    z: float
    u: float
    dead: float
    cut: float
    cut_nearest: float
    x: float
    both: float
    either: float


@dataclass(frozen=True)
class Changes:
    """What a Z/U update did to a group of units.

    Args:
        energies: Of W and of T before it.
        x: ||X||^2 of every unit, (n_units,).
        u: ||U||^2 of every unit that is not kept, (n_units,).
        shares: A and b of X = a W + b T, (n_units,) each.
        before: Which units were kept, (n_units,) bool.
        kept: Which are.
    """

    energies: Energies
    x: Tensor
    u: Tensor
    shares: tuple[Tensor, Tensor]
    before: Tensor
    kept: Tensor


def measure(changes: Sequence[Changes], constraint: "Constraint", rho: float, n: int) -> Residuals:
    """Compute the residuals of one Z/U update with a single read from the device.

    Args:
        changes: Of every group of units.
        constraint: Groups of units.
        rho: Penalty parameter.
        n: Number of constrained scalars.
    """
    nearest = best_units((change.x for change in changes), constraint.groups)
    pairs = list(zip(changes, nearest, strict=True))
    table = torch.cat([_sums_of(batch) for batch in _batches(pairs)])
    rows = [Sums(*row) for row in table.tolist()]
    total = Sums(*map(sum, zip(*rows, strict=True)))
    named = zip(constraint.groups, rows, strict=True)
    groups = tuple(_of_group(group.name, rho, row, total.w) for group, row in named)
    return _from_sums(n, rho, total, groups)


def _batches(pairs: Sequence[tuple[Changes, Tensor]]) -> Iterator[list[tuple[Changes, Tensor]]]:
    """Put groups together until there are many units."""
    batch: list[tuple[Changes, Tensor]] = []
    for pair in pairs:
        batch.append(pair)
        if sum(len(change.kept) for change, _ in batch) > MANY_UNITS:
            yield batch
            batch = []
    if batch:
        yield batch


def _sums_of(batch: Sequence[tuple[Changes, Tensor]]) -> Tensor:
    """Sum over the units of every group, in the order of `Sums`: (n_groups, 11).

    Z is X on the kept units and T on those kept before. All units stand side by side, so that a
    group costs a few operations.
    """
    columns = [
        (
            *(c.energies.w, c.energies.t, c.energies.distance),
            *(c.x, c.u, *c.shares, c.before, c.kept, best),
        )
        for c, best in batch
    ]
    w, t, distance, x, u, a, b, before, kept, nearest = map(torch.cat, zip(*columns, strict=True))
    energies = Energies(w, t, distance)
    moved = torch.where(before, energies.of(a, b - 1.0), x)
    numbers = [
        torch.where(kept, energies.of(1.0 - a, -b), w),
        torch.where(kept, moved, t * before),
        w,
        x * kept,
        u * ~kept,
        w * ~kept,
        x * ~kept,
        x * ~nearest,
        x,
        (before & kept).to(x.dtype),
        (before | kept).to(x.dtype),
    ]
    sizes = [len(change.kept) for change, _ in batch]
    return torch.stack([own.sum(dim=1) for own in torch.stack(numbers).split(sizes, dim=1)])


def _of_group(name: str, rho: float, sums: Sums, total_w: float) -> GroupResiduals:
    return GroupResiduals(
        name=name,
        energy=_ratio(sums.w, total_w),
        primal_residual=sums.primal**0.5,
        dual_residual=rho * sums.delta_z**0.5,
        relative_primal_residual=_ratio(sums.primal**0.5, max(sums.w, sums.z) ** 0.5),
        support_change=1.0 - _ratio(sums.both, sums.either),
        dead_energy=_ratio(sums.dead, sums.w),
    )


def _from_sums(n: int, rho: float, sums: Sums, groups: tuple[GroupResiduals, ...]) -> Residuals:
    norm_w, norm_z, norm_u = (square**0.5 for square in (sums.w, sums.z, sums.u))
    scale = max(norm_w, norm_z)
    primal, dual = sums.primal**0.5, rho * sums.delta_z**0.5
    return Residuals(
        rho=rho,
        primal_residual=primal,
        dual_residual=dual,
        eps_primal=n**0.5 * EPS_ABS + EPS_REL * scale,
        eps_dual=n**0.5 * EPS_ABS + EPS_REL * rho * norm_u,
        relative_primal_residual=_ratio(primal, scale),
        relative_dual_residual=_ratio(dual, rho * norm_u),
        support_change=1.0 - _ratio(sums.both, sums.either),
        dead_energy=_ratio(sums.dead, sums.w),
        dual_ratio=_ratio(norm_u, norm_w),
        projection_gap=max(0.0, _ratio(sums.cut - sums.cut_nearest, sums.x)),
        groups=groups,
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else 0.0
