"""An observer that ends a run whose ADMM diagnostics are hopeless."""

from collections.abc import Sequence

from admm_exp.errors import StoppedError
from admm_exp.results import EpochRecord, IterationRecord, PhaseResult


class Hopeless:
    """End a run whose dead energy exceeds its limits.

    Args:
        limits: one an ADMM iteration; none never ends a run.
    """

    def __init__(self, limits: Sequence[float]) -> None:
        self._limits = limits

    def phase_started(self, name: str, epochs: int) -> None:
        """Nothing to judge."""

    def epoch_finished(self, record: EpochRecord) -> None:
        """Nothing to judge."""

    def iteration_finished(self, record: IterationRecord) -> None:
        """Judge an iteration.

        Raises:
            StoppedError: the run is hopeless.
        """
        if record.iteration > len(self._limits):
            return
        limit = self._limits[record.iteration - 1]
        if record.dead_energy > limit:
            raise StoppedError(
                f"hopeless: iteration {record.iteration} would cut {record.dead_energy:.1%} of the "
                f"energy, other trials allow {limit:.1%}"
            )

    def phase_finished(self, result: PhaseResult) -> None:
        """Nothing to judge."""

    def warned(self, message: str) -> None:
        """Nothing to judge."""
