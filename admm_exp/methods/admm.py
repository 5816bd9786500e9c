"""ADMM training, then the cut and finetuning."""

from admm_exp.admm.rho import Momentum
from admm_exp.methods.method import Finetuned
from admm_exp.phases.admm import train_admm
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.phases.functions import TrainingFunctions
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import Stopped


class ADMM(Finetuned):
    """Train W towards its projection until the units to be cut carry nothing."""

    def check(self, course: AdmmCourse, rho: float, momentum: Momentum | None) -> None:
        """Refuse a rho that is too large for the learning rate of an iteration."""
        course.check_rho(rho, momentum)

    def sparsify(
        self,
        constrained: ConstrainedModel,
        course: AdmmCourse,
        functions: TrainingFunctions,
        *,
        rho: float,
        offset: int,
    ) -> Stopped:
        """Run the ADMM iterations."""
        constrained.rho = rho
        return train_admm(constrained, course, functions, offset=offset)
