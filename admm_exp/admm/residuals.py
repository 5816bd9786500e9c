"""Residuals of a Z/U update, and what a cut would cost now, from sums over units."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from admm_exp.admm.convergence import GroupResiduals, Residuals
from admm_exp.admm.projection import keep_best

if TYPE_CHECKING:
    from admm_exp.admm.groups import Units
    from admm_exp.admm.projection import Constraint
    from admm_exp.admm.state import State

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
        u_nearest: ||U||^2 after the Euclidean projection.
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
    u_nearest: float
    x: float
    both: float
    either: float


def measure(W: Sequence[Tensor], old: "State", new: "State", constraint: "Constraint") -> Residuals:
    """Compute the residuals of one Z/U update with a single read from the device.

    All of them are sums over units: five energies of every unit, and which units are kept.

    Args:
        W: Constrained weights, float32.
        old: State before the update.
        new: State after it.
        constraint: Groups of units.
    """
    T, T_old = new.targets, old.targets
    columns = [
        constraint.energies(W),
        constraint.energies(T),
        constraint.energies(T_old),
        constraint.energies(w - t for w, t in zip(W, T, strict=True)),
        constraint.energies(t - t_old for t, t_old in zip(T, T_old, strict=True)),
    ]
    groups = zip(constraint.groups, zip(*columns, strict=True), strict=True)
    sums = [
        _sums_of(group, energies, before, kept)
        for (group, energies), before, kept in zip(groups, old.support, new.support, strict=True)
    ]
    rows = [Sums(*row) for row in torch.stack(sums).tolist()]
    total = Sums(*map(sum, zip(*rows, strict=True)))
    n = sum(w.numel() for w in W)
    return _from_sums(
        n,
        new.rho,
        total,
        tuple(
            _of_group(group.name, new.rho, row, total.w)
            for group, row in zip(constraint.groups, rows, strict=True)
        ),
    )


def _sums_of(group: "Units", energies: Sequence[Tensor], before: Tensor, kept: Tensor) -> Tensor:
    """Sum the energies of the units of a group, in the order of `Sums`.

    Z is T on the kept units and U is -T on the others, before and after, and |T| = |X|.
    """
    w, t, t_old, w_minus_t, t_minus_t_old = energies
    nearest = keep_best(t, group.n_kept, group.n_blocks)
    delta_z = torch.where(before, torch.where(kept, t_minus_t_old, t_old), t * kept)
    numbers = [
        torch.where(kept, w_minus_t, w),
        delta_z,
        w,
        t * kept,
        t * ~kept,
        w * ~kept,
        t * ~nearest,
        t,
    ]
    counts = [(before & kept).sum(), (before | kept).sum()]
    return torch.stack([*(number.sum() for number in numbers), *(n.float() for n in counts)])


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
        projection_gap=max(0.0, _ratio(sums.u - sums.u_nearest, sums.x)),
        groups=groups,
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else 0.0
