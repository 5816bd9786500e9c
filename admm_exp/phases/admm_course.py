"""What an ADMM phase is asked to do, and whether that can end well."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1

from admm_exp.admm.convergence import Residuals
from admm_exp.admm.ramp import count_ramped, ramped_share
from admm_exp.admm.rho import RHO_S_ONE_PERCENT, Momentum, largest_stable_rho
from admm_exp.admm.rho_course import Pull, RhoCourse, step_sizes
from admm_exp.admm.rho_policy import RhoPolicy
from admm_exp.admm.settings import AdmmSettings, DualStep, WStep
from admm_exp.admm.stopping import flipping_complaint, is_support_stable, stop_reason
from admm_exp.errors import ConfigError
from admm_exp.training.learning_rate import LearningRates, admm_lrs

CAPPED_SHARE = 0.5
"""Of the largest stable rho, how much a policy may take: the task's own curvature adds to rho."""
RESCALED = frozenset({WStep.gradient, WStep.folded})
"""Forms of the W-step whose pull an Adam-like optimizer rescales."""


@dataclass(frozen=True)
class AdmmCourse:
    """The course of an ADMM phase: rho, learning rates and share of every iteration, and its end.

    Args:
        settings: Length and rules of the phase.
        rho_policy: Chooses rho of every iteration from its start value.
        lrs: Learning rates of all its epochs.
        is_auto: Whether rho was chosen so that the pulls of all steps come to what rho=auto means.
    """

    settings: AdmmSettings
    rho_policy: RhoPolicy
    lrs: LearningRates
    is_auto: bool = False

    def epochs_of(self, iteration: int) -> range:
        """List the epochs of an iteration; all are counted from 0."""
        length = self.settings.admm_epoch
        return range(iteration * length, (iteration + 1) * length)

    def highest_lr_of(self, iteration: int) -> float:
        """Find the highest learning rate of an iteration, counted from 0."""
        epochs = self.epochs_of(iteration)
        return self.lrs.highest(epochs.start, epochs.stop)

    def share_of(self, iteration: int) -> float:
        """Compute which share of the units to be removed an iteration, counted from 0, pulls on."""
        settings = self.settings
        return ramped_share(iteration + 1, settings.pulled_iterations, settings.sparsity_ramp)

    def is_masked(self, iteration: int) -> bool:
        """Tell whether the units to be removed stay at zero in an iteration, counted from 0."""
        return iteration >= self.settings.pulled_iterations

    def holds_settled(self, iteration: int) -> bool:
        """Tell whether units that two updates removed stay at zero while others are pulled."""
        settings = self.settings
        holds = settings.masked_share > 0.0 and settings.sparsity_ramp > 0.0
        return holds and not self.is_masked(iteration)

    def auto_rho(self, steps_per_epoch: int, momentum: Momentum | None) -> float:
        """Choose the start value that leaves 1 % of an unheld coordinate after the whole phase."""
        return self.course(steps_per_epoch, momentum).start(RHO_S_ONE_PERCENT)

    def course(self, steps_per_epoch: int | None, momentum: Momentum | None) -> RhoCourse:
        """Describe which rho every iteration has, and what its pull comes to.

        Args:
            steps_per_epoch: Optimizer steps an epoch takes; None if nobody knows, when no pull can
                be computed.
            momentum: Of the optimizer; None for Adam-like ones.
        """
        iterations = range(self.settings.admm_iterations)
        lrs = [
            [lr for e in self.epochs_of(i) for lr in self.lrs.of_epoch(e, steps_per_epoch or 1)]
            for i in iterations
        ]
        is_proximal = self.settings.w_step == WStep.proximal or momentum is None
        return RhoCourse(
            self.rho_policy,
            Pull(step_sizes(lrs, momentum.size if momentum else 0.0), is_proximal),
            [CAPPED_SHARE * self.largest_rho(i, momentum) for i in iterations],
            RHO_S_ONE_PERCENT if self.is_auto else None,
        )

    def pull_so_far(
        self, past: Sequence[Residuals], steps_per_epoch: int | None, momentum: Momentum | None
    ) -> float | None:
        """Sum the pulls of all steps so far; None where the optimizer rescales them."""
        if steps_per_epoch is None or (momentum is None and self._is_rescaled):
            return None
        return self.course(steps_per_epoch, momentum).pulled(past)

    def dual_step(
        self, iteration: int, rho: float, steps_per_epoch: int | None, momentum: Momentum | None
    ) -> float:
        """Compute which part of what an iteration leaves U takes: 1, or what its pull could remove.

        Args:
            iteration: Counted from 0.
            rho: Its penalty parameter.
            steps_per_epoch: Optimizer steps of an epoch; 1 is returned if nobody knows.
            momentum: Of the optimizer; None for Adam-like ones, where 1 is returned if they rescale
                the pull.
        """
        is_unknown = steps_per_epoch is None or (momentum is None and self._is_rescaled)
        if is_unknown or self.settings.dual_step == DualStep.full:
            return 1.0
        return -expm1(-self.course(steps_per_epoch, momentum).pull.of(iteration, rho))

    @property
    def _is_rescaled(self) -> bool:
        return self.settings.w_step in RESCALED

    def largest_rho(self, iteration: int, momentum: Momentum | None) -> float:
        """Bound rho of an iteration, counted from 0.

        Args:
            iteration: Counted from 0.
            momentum: Of the optimizer; None for Adam-like ones, for which no bound is known.
        """
        if self.settings.w_step == WStep.proximal or momentum is None:
            return float("inf")
        return largest_stable_rho(self.highest_lr_of(iteration), momentum)

    def next_rho(
        self,
        start: float,
        past: Sequence[Residuals],
        momentum: Momentum | None,
        steps_per_epoch: int | None,
    ) -> float:
        """Choose rho of the next iteration.

        Returns:
            The start value, then what the policy says, at most half of the largest stable rho or
            the start value, and such that the whole phase can come to its total pull.
        """
        return self.course(steps_per_epoch, momentum).next(start, past)

    def cap_notice(
        self, start: float, past: Sequence[Residuals], momentum: Momentum | None
    ) -> str | None:
        """Say that the next rho is not what the policy asked for, or None if it is."""
        asked = self.rho_policy(start, past, self.settings.admm_iterations)
        most = max(start, CAPPED_SHARE * self.largest_rho(len(past), momentum))
        if not past or asked <= most:
            return None
        return (
            f"rho_policy asked for rho {asked:.3g} in iteration {len(past) + 1}; it is held at "
            f"{most:.3g}: much more is not stable at this learning rate; w_step=proximal is"
        )

    def check_rho(self, start: float, momentum: Momentum | None) -> None:
        """Check, before anything is trained, that the start value is not too large for its step.

        Args:
            start: Penalty parameter of the first iteration.
            momentum: Of the optimizer; None for Adam-like ones.

        Raises:
            ConfigError: If the first iteration would diverge, with the bound.
        """
        bound, lr = self.largest_rho(0, momentum), self.highest_lr_of(0)
        if start >= bound:
            raise ConfigError(
                f"rho must stay below {bound:.3g} at learning rate {lr:.3g}, got "
                f"{start:.3g}: lower rho, or take w_step=proximal, which is stable for every rho"
            )

    def is_frozen(self, past: Sequence[Residuals]) -> bool:
        """Tell whether the next update keeps the support."""
        if self.is_masked(len(past)):
            return True
        settings, settled = self.settings, self._settled(past)
        return settings.freeze_support and is_support_stable(settled, settings.stable_iterations)

    def stop_reason(self, past: Sequence[Residuals]) -> str | None:
        """Say why the phase may end before its budget, or None if it may not."""
        settings = self.settings
        return stop_reason(self._settled(past), settings.stopping, settings.stable_iterations)

    def complaint(
        self, past: Sequence[Residuals], steps_per_epoch: int, momentum: Momentum | None
    ) -> str | None:
        """Say what goes wrong and what to try, or None.

        Args:
            past: Residuals of the iterations so far.
            steps_per_epoch: Optimizer steps of an epoch, which the rho to try comes from.
            momentum: Of the optimizer; None for Adam-like ones.
        """
        n_ramped = count_ramped(self.settings.pulled_iterations, self.settings.sparsity_ramp)
        auto = self.auto_rho(steps_per_epoch, momentum)
        return flipping_complaint(past, self.settings.w_step, auto, n_ramped)

    def _settled(self, past: Sequence[Residuals]) -> Sequence[Residuals]:
        return past[count_ramped(self.settings.pulled_iterations, self.settings.sparsity_ramp) :]


def admm_course_of(
    settings: AdmmSettings, rho_policy: RhoPolicy, *, is_auto: bool, finetune_epochs: int = 0
) -> AdmmCourse:
    """Plan an ADMM phase with the learning rates that its settings ask for.

    Args:
        settings: Length and rules of the phase.
        rho_policy: Chooses rho of every iteration from its start value.
        is_auto: Whether the start value is chosen by `auto_rho`.
        finetune_epochs: Of the cosine after the cut that `admm_decay=joint` is one with; 0 if
            finetuning decays in another way.
    """
    lrs = admm_lrs(
        settings.admm_decay,
        settings.admm_lr,
        settings.admm_iterations,
        settings.admm_epoch,
        warmup=settings.admm_warmup,
        per=settings.lr_per,
        finetune_epochs=finetune_epochs,
    )
    return AdmmCourse(settings, rho_policy, lrs, is_auto)
