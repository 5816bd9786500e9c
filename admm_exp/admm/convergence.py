"""How far an ADMM iteration is from convergence, as plain numbers."""

from dataclasses import dataclass


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

    def __str__(self) -> str:
        """Write the residuals beside their tolerances, and what else moves, as a small table."""
        primal = self.primal_residual, self.eps_primal, self.relative_primal_residual
        dual = self.dual_residual, self.eps_dual, self.relative_dual_residual
        verdict = "converged" if self.is_converged else "not converged"
        lines = [f"{f'rho {self.rho:.3g}':<15}  residual  tolerance  relative   {verdict}"]
        for name, (residual, eps, relative) in (("primal", primal), ("dual", dual)):
            lines.append(f"{name:<15}  {residual:8.2g}  {eps:9.2g}  {relative:8.2g}")
        moved, dead = f"{self.support_change:.1%}", f"{self.dead_energy:.2%}"
        lines.append(
            f"support changed  {moved}, energy to be cut {dead}, |U|/|W| {self.dual_ratio:.2g}"
        )
        return "\n".join(lines)
