"""How far an ADMM iteration is from convergence, and what a cut would cost now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from admm_exp.admm.projection import keep_best

if TYPE_CHECKING:
    from admm_exp.admm.groups import Units
    from admm_exp.admm.projection import Constraint
    from admm_exp.admm.state import State

EPS_ABS = 1e-4
EPS_REL = 1e-2
SUMS = ("primal", "delta_z", "w", "z", "u", "dead", "u_nearest", "x", "both", "either")
"""||W - Z||^2, ||Z - Z_old||^2, ||W||^2, ||Z||^2, ||U||^2, what of ||W||^2 a cut would remove,
||U||^2 after the Euclidean projection, ||X||^2, and units kept before and after, or before or
after."""


@dataclass(frozen=True)
class GroupResiduals:
    """The same of one group of units; `energy` is its share of ||W||^2."""

    name: str
    energy: float
    primal_residual: float
    dual_residual: float
    relative_primal_residual: float
    support_change: float
    dead_energy: float


@dataclass(frozen=True)
class Residuals:
    """Norms over all constrained weights together.

    primal_residual = ||W - Z||, dual_residual = ||rho (Z - Z_old)||, with
    eps_primal = sqrt(n) eps_abs + eps_rel max(||W||, ||Z||) and
    eps_dual = sqrt(n) eps_abs + eps_rel ||rho U||, n scalars.

    The relative forms divide by max(||W||, ||Z||) and by ||rho U||. support_change is one minus
    the Jaccard index of the kept units before and after; dead_energy the fraction of ||W||^2 that
    a cut would remove now; dual_ratio is ||U|| / ||W||; projection_gap is how much more of
    ||X||^2 the metric gives up than the Euclidean projection, as a fraction (0 for l2_norm).
    groups holds the same for every group of units on its own.

    References:
        Boyd et al. 2011, section 3.3.1; Wohlberg 2017, arXiv 1704.06209 (relative forms).
    """

    rho: float
    primal_residual: float
    dual_residual: float
    eps_primal: float
    eps_dual: float
    relative_primal_residual: float
    relative_dual_residual: float
    support_change: float
    dead_energy: float
    dual_ratio: float
    projection_gap: float
    groups: tuple[GroupResiduals, ...] = ()

    @property
    def is_converged(self) -> bool:
        """Whether both residuals are within their tolerances."""
        return self.primal_residual <= self.eps_primal and self.dual_residual <= self.eps_dual


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
    table = torch.stack(sums).tolist()
    rows = [dict(zip(SUMS, row, strict=True)) for row in table]
    total = {name: sum(row[name] for row in rows) for name in SUMS}
    n = sum(w.numel() for w in W)
    return _from_sums(
        n,
        new.rho,
        total,
        tuple(
            _of_group(group.name, new.rho, row, total["w"])
            for group, row in zip(constraint.groups, rows, strict=True)
        ),
    )


def _sums_of(group: "Units", energies: Sequence[Tensor], before: Tensor, kept: Tensor) -> Tensor:
    """Sum the energies of the units of a group, in the order of `SUMS`.

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


def _of_group(name: str, rho: float, sums: Mapping[str, float], total_w: float) -> GroupResiduals:
    return GroupResiduals(
        name=name,
        energy=_ratio(sums["w"], total_w),
        primal_residual=sums["primal"] ** 0.5,
        dual_residual=rho * sums["delta_z"] ** 0.5,
        relative_primal_residual=_ratio(sums["primal"] ** 0.5, max(sums["w"], sums["z"]) ** 0.5),
        support_change=1.0 - _ratio(sums["both"], sums["either"]),
        dead_energy=_ratio(sums["dead"], sums["w"]),
    )


def _from_sums(
    n: int, rho: float, sums: Mapping[str, float], groups: tuple[GroupResiduals, ...]
) -> Residuals:
    norm_w, norm_z, norm_u = (sums[name] ** 0.5 for name in "wzu")
    scale = max(norm_w, norm_z)
    primal, dual = sums["primal"] ** 0.5, rho * sums["delta_z"] ** 0.5
    return Residuals(
        rho=rho,
        primal_residual=primal,
        dual_residual=dual,
        eps_primal=n**0.5 * EPS_ABS + EPS_REL * scale,
        eps_dual=n**0.5 * EPS_ABS + EPS_REL * rho * norm_u,
        relative_primal_residual=_ratio(primal, scale),
        relative_dual_residual=_ratio(dual, rho * norm_u),
        support_change=1.0 - _ratio(sums["both"], sums["either"]),
        dead_energy=_ratio(sums["dead"], sums["w"]),
        dual_ratio=_ratio(norm_u, norm_w),
        projection_gap=max(0.0, _ratio(sums["u"] - sums["u_nearest"], sums["x"])),
        groups=groups,
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else 0.0
