"""How far an ADMM iteration is from convergence, and what a cut would cost now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from admm_exp.admm.projection import Constraint
    from admm_exp.admm.state import State

EPS_ABS = 1e-4
EPS_REL = 1e-2


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


def measure(
    W: Sequence[Tensor],
    old: "State",
    new: "State",
    constraint: "Constraint",
    *,
    old_masks: Sequence[Tensor],
    masks: Sequence[Tensor],
    nearest: Sequence[Tensor],
) -> Residuals:
    """Compute the residuals of one Z/U update with a single read from the device.

    Args:
        W: Constrained weights, float32.
        old: State before the update.
        new: State after it.
        constraint: Groups of units.
        old_masks: Broadcastable masks of the old support, True = kept.
        masks: Those of the new support.
        nearest: Those of the Euclidean projection of X.
    """
    squares: list[Tensor] = []
    for w, t_old, t, m_old, m, m_near in zip(
        W, old.targets, new.targets, old_masks, masks, nearest, strict=True
    ):
        z, x_square = t * m, t.square()  # |T| = |X|, so T^2 = X^2
        squares.append(
            torch.stack(
                [
                    (w - z).square().sum(),
                    (z - t_old * m_old).square().sum(),
                    w.square().sum(),
                    z.square().sum(),
                    (x_square * ~m).sum(),
                    (w.square() * ~m).sum(),
                    (x_square * ~m_near).sum(),
                    x_square.sum(),
                ]
            )
        )
    kept_both = sum((a & b).sum() for a, b in zip(old.support, new.support, strict=True))
    kept_any = sum((a | b).sum() for a, b in zip(old.support, new.support, strict=True))
    counts = torch.stack([torch.as_tensor(kept_both), torch.as_tensor(kept_any)])
    table = torch.stack([*squares, counts.new_zeros(8, dtype=torch.float32)])
    table[-1, :2] = counts
    *rows, (both, either, *_) = table.tolist()
    sums = [sum(column) for column in zip(*rows, strict=True)]
    residuals = _from_sums(sum(w.numel() for w in W), new.rho, [*sums, both, either])
    groups = _by_group(W, old, new, constraint, old_masks=old_masks, masks=masks)
    return replace(residuals, groups=groups)


def _by_group(
    W: Sequence[Tensor],
    old: "State",
    new: "State",
    constraint: "Constraint",
    *,
    old_masks: Sequence[Tensor],
    masks: Sequence[Tensor],
) -> tuple[GroupResiduals, ...]:
    old_Z = [t * m for t, m in zip(old.targets, old_masks, strict=True)]
    Z = [t * m for t, m in zip(new.targets, masks, strict=True)]
    primal = constraint.energies([w - z for w, z in zip(W, Z, strict=True)])
    delta_z = constraint.energies([z - z_old for z, z_old in zip(Z, old_Z, strict=True)])
    columns = [primal, delta_z, constraint.energies(W), constraint.energies(Z)]
    table = []
    for *energies, before, kept in zip(*columns, old.support, new.support, strict=True):
        dead = (energies[2] * ~kept).sum()
        counts = [(before & kept).sum(), (before | kept).sum()]
        numbers = [*(energy.sum() for energy in energies), dead, *counts]
        table.append(torch.stack([number.float() for number in numbers]))
    rows = torch.stack(table).tolist()
    total = sum(row[2] for row in rows)
    return tuple(
        GroupResiduals(
            name=group.name,
            energy=_ratio(w, total),
            primal_residual=primal_square**0.5,
            dual_residual=new.rho * delta_square**0.5,
            relative_primal_residual=_ratio(primal_square**0.5, max(w, z) ** 0.5),
            support_change=1.0 - _ratio(both, either),
            dead_energy=_ratio(dead, w),
        )
        for group, (primal_square, delta_square, w, z, dead, both, either) in zip(
            constraint.groups, rows, strict=True
        )
    )


def _from_sums(n: int, rho: float, sums: Sequence[float]) -> Residuals:
    primal, delta_z, w, z, u, dead, u_near, x, both, either = sums
    norm_w, norm_z, norm_u = w**0.5, z**0.5, u**0.5
    scale = max(norm_w, norm_z)
    dual = rho * delta_z**0.5
    return Residuals(
        rho=rho,
        primal_residual=primal**0.5,
        dual_residual=dual,
        eps_primal=n**0.5 * EPS_ABS + EPS_REL * scale,
        eps_dual=n**0.5 * EPS_ABS + EPS_REL * rho * norm_u,
        relative_primal_residual=_ratio(primal**0.5, scale),
        relative_dual_residual=_ratio(dual, rho * norm_u),
        support_change=1.0 - _ratio(both, either),
        dead_energy=_ratio(dead, w),
        dual_ratio=_ratio(norm_u, norm_w),
        projection_gap=max(0.0, _ratio(u - u_near, x)),
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else 0.0
