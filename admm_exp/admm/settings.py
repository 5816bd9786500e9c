"""The settings of ADMM training: their meaning, defaults and ranges, written here alone.

The command line (config), the methods, the phases and `ADMMPruner.prune` share them. Nothing heavy
is imported, so that a command line can be checked before torch is.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import ge, gt, le, lt
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1)]
LearningRate = Annotated[float, Gt(0.0)]
Warmup = Annotated[float, Ge(0.0), Lt(1.0)]
Relaxation = Annotated[float, Gt(0.0), Lt(2.0)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]
TESTS: dict[type, Callable[[Any, Any], bool]] = {Ge: ge, Gt: gt, Le: le, Lt: lt}


class AdmmDecay(StrEnum):
    """How the learning rate falls during ADMM training.

    `joint` is one cosine over ADMM training and finetuning, whose warm-up is then admm_warmup, a
    fraction of both; finetuning with another decay than cosine goes its own way. `thirds` starts
    every iteration at admm_lr and multiplies by 0.1 after each third of it.
    """

    constant = "constant"
    cosine = "cosine"
    joint = "joint"
    thirds = "thirds"


class LrPer(StrEnum):
    """What has a learning rate of its own: every optimizer step, or every epoch."""

    step = "step"
    epoch = "epoch"


class Stopping(StrEnum):
    """What ends ADMM training: all iterations, Boyd's residual rule, or a support that stays.

    After a `reduced` W-step Z of the kept units is W, so that the dual residual counts the units
    that were exchanged alone: `residuals` then asks for a small primal one and a support that
    stays.
    """

    budget = "budget"
    residuals = "residuals"
    support = "support"


class WStep(StrEnum):
    """How W is pulled towards Z - U.

    `gradient` adds to the gradients, `folded` through the weight decay of SGD; `proximal` pulls
    after the optimizer's step; `reduced` adds to the gradients of units to be removed alone.
    """

    gradient = "gradient"
    folded = "folded"
    proximal = "proximal"
    reduced = "reduced"


class DualStep(StrEnum):
    """How much of what an iteration leaves of the units to be removed U takes.

    `full` is all of it, as in Boyd et al., who solve every W-step. A W-step that is cut short
    leaves what it had no time to remove, and U would pull that past zero, to the other sign;
    `reached` takes the part 1 - exp(-pull of the iteration's steps) that it had time for.
    """

    full = "full"
    reached = "reached"


@dataclass(frozen=True)
class AdmmSettings:
    """What ADMM training is asked to do.

    Args:
        admm_iterations: Number of W/Z/U rounds.
        admm_epoch: Epochs between two updates of Z and U.
        admm_lr: Highest learning rate.
        admm_decay: How the learning rate falls.
        admm_warmup: Fraction of the training over which the learning rate rises, finetuning
            included for `joint`.
        lr_per: What has a learning rate of its own.
        w_step: How W is pulled towards Z - U.
        relaxation: Over-relaxation; 1 is none.
        dual_step: How much of what an iteration leaves U takes.
        sparsity_ramp: Fraction of the iterations over which the sparsity rises; 0: all from the
            start.
        masked_share: Last part of the iterations, rounded to whole ones and never all, whose
            W-step keeps the units to be removed at zero instead of pulling at them, so that the
            cut takes nothing away; an early end comes before it. If it is not 0 and the sparsity
            rises, a unit stays at zero before that too, as soon as two updates in a row have
            removed it: an iteration then pulls at what came last, and never lets all go at once.
        stopping: What ends the training.
        stable_iterations: Iterations without a change that make a support stable.
        freeze_support: Whether a stable support is kept from then on.

    Raises:
        ValueError: If a setting is out of its range.
    """

    admm_iterations: Count
    admm_epoch: Count = 1
    admm_lr: LearningRate = 0.01
    admm_decay: AdmmDecay = AdmmDecay.cosine
    admm_warmup: Warmup = 0.1
    lr_per: LrPer = LrPer.step
    w_step: WStep = WStep.reduced
    relaxation: Relaxation = 1.0
    dual_step: DualStep = DualStep.full
    sparsity_ramp: Fraction = 0.0
    masked_share: Fraction = 0.0
    stopping: Stopping = Stopping.budget
    stable_iterations: Count = 3
    freeze_support: bool = False

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for setting in fields(AdmmSettings):
            _check(setting.name, getattr(self, setting.name), hints[setting.name])

    def is_joint_with(self, finetune_decay: str) -> bool:
        """Tell whether finetuning goes on with the cosine of this training."""
        return self.admm_decay == AdmmDecay.joint and finetune_decay == "cosine"

    @property
    def pulled_iterations(self) -> int:
        """Iterations before those that keep the units to be removed at zero, at least 1."""
        return max(1, self.admm_iterations - round(self.masked_share * self.admm_iterations))

    @property
    def epochs(self) -> int:
        """Epochs of the whole training."""
        return self.admm_iterations * self.admm_epoch


def _check(name: str, value: Any, kind: Any) -> None:
    if get_origin(kind) is Annotated:
        bounds = [bound for bound in get_args(kind) if type(bound) in TESTS]
        if not all(TESTS[type(bound)](value, _limit(bound)) for bound in bounds):
            raise ValueError(f"{name} must be {_range(*bounds)}, got {value!r}")
    elif issubclass(kind, StrEnum) and value not in set(kind):
        raise ValueError(f"{name} must be one of {', '.join(kind)}, got {value!r}")


def _limit(bound: Any) -> float:
    return float(getattr(bound, type(bound).__name__.lower()))


def _range(low: Any, high: Any = None) -> str:
    """Write bounds as a range: at least 1, greater than 0, in [0, 1)."""
    is_closed = isinstance(low, Ge)
    if high is None:
        return f"{'at least' if is_closed else 'greater than'} {_limit(low):g}"
    ends = "[" if is_closed else "(", "]" if isinstance(high, Le) else ")"
    return f"in {ends[0]}{_limit(low):g}, {_limit(high):g}{ends[1]}"
