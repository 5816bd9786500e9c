"""Group lasso: all channels pay for their norm, and the weakest end at zero."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim import Optimizer

from admm_exp.admm.state import initial_state
from admm_exp.methods.method import Finetuned
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.phases.train import train_at
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.shrinkage import shrinking, threshold_norms


class GroupLasso(Finetuned):
    """Take proximal steps on strength * sum of the units' norms for A epochs, then cut.

    Strength 1 takes, over all A epochs and without any task gradient, the norm of the strongest
    unit to be removed from every unit of its group.

    Args:
        strength: Factor on that, > 0.

    References:
        Wen et al. 2016, arXiv 1608.03665 (group lasso on channels); Parikh and Boyd 2014,
        doi 10.1561/2400000003, section 6.5.1 (block soft thresholding).

    Raises:
        ValueError: If strength is not positive.
    """

    needs_channels = True

    def __init__(self, strength: float) -> None:
        if not strength > 0.0:
            raise ValueError(f"strength must be greater than 0, got {strength}")
        self.strength = strength

    def sparsify(
        self,
        constrained: ConstrainedModel,
        course: AdmmCourse,
        functions: TrainingFunctions,
        *,
        rho: float,
        offset: int,
    ) -> None:
        """Train for A epochs, then rank the channels."""
        if functions.steps_per_epoch is None:
            raise ValueError("group lasso needs to know steps_per_epoch")
        path = course.lrs.total(functions.steps_per_epoch)
        norms = threshold_norms(constrained.weights(), constrained.channel_groups)
        strengths = [self.strength * norm / path for norm in norms]

        @contextmanager
        def shrunk(optimizer: Optimizer, epoch: int) -> Iterator[None]:
            with shrinking(optimizer, constrained, strengths):
                yield

        train_at(
            constrained.model, "group_lasso", functions, course.lrs, offset, around_epoch=shrunk
        )
        constrained.state = initial_state(
            constrained.weights(), constrained.constraint, constrained.rho
        )
