"""Residuals of a Z/U update, and what a cut would cost now, from sums over units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from admm_exp.admm.batch import Batch
from admm_exp.admm.convergence import GroupResiduals, Residuals
from admm_exp.admm.groups import Units

EPS_ABS = 1e-4
EPS_REL = 1e-2


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
    """What a Z/U update did to groups of units side by side.

    Args:
        batch: The groups before it.
        x: ||X||^2 of every unit, (n_units,).
        u: ||U||^2 of every unit that is not kept, (n_units,).
        kept: Which units are kept now, (n_units,) bool.
        nearest: Which the Euclidean projection would keep.
    """

    batch: Batch
    x: Tensor
    u: Tensor
    kept: Tensor
    nearest: Tensor


def measure(changes: Sequence[Changes], groups: Sequence[Units], rho: float, n: int) -> Residuals:
    """Compute the residuals of one Z/U update with a single read from the device.

    Args:
        changes: Of all groups of units, in their order.
        groups: Groups of units.
        rho: Penalty parameter.
        n: Number of constrained scalars.
    """
    table = torch.cat([_sums_of(own) for own in changes])
    rows = [Sums(*row) for row in table.tolist()]
    total = Sums(*map(sum, zip(*rows, strict=True)))
    named = zip(groups, rows, strict=True)
    by_group = tuple(_of_group(group.name, rho, row, total.w) for group, row in named)
    return _from_sums(n, rho, total, by_group)


def _sums_of(changes: Changes) -> Tensor:
    """Sum over the units of every group, in the order of `Sums`: (n_groups, 11).

    Z is X on the kept units and T on those kept before.
    """
    batch, x, kept = changes.batch, changes.x, changes.kept
    energies, before = batch.energies, batch.before
    w, t = energies.w, energies.t
    moved = torch.where(before, energies.of(batch.a, batch.b - 1.0), x)
    numbers = [
        torch.where(kept, energies.of(1.0 - batch.a, -batch.b), w),
        torch.where(kept, moved, t * before),
        w,
        x * kept,
        changes.u * ~kept,
        w * ~kept,
        x * ~kept,
        x * ~changes.nearest,
        x,
        (before & kept).to(x.dtype),
        (before | kept).to(x.dtype),
    ]
    own = torch.stack(numbers).split(batch.sizes, dim=1)
    return torch.stack([of_group.sum(dim=1) for of_group in own])


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
