"""The observer of a sweep's job: hands warnings to the sweep, and ends what is hopeless."""

from pathlib import Path

from admm_exp.errors import StoppedError
from admm_exp.job_file import read_job, warn_job
from admm_exp.results import History, IterationRecord


class JobObserver(History):
    """Watch one job.

    Args:
        path: the job's file; its limits, one an ADMM iteration, are kept to, none never ends a run.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._limits = read_job(path).limits

    def iteration_finished(self, record: IterationRecord) -> None:
        """Judge an iteration.

        Raises:
            StoppedError: the run is hopeless.
        """
        super().iteration_finished(record)
        if record.iteration > len(self._limits):
            return
        limit = self._limits[record.iteration - 1]
        if record.dead_energy > limit:
            raise StoppedError(
                f"hopeless: iteration {record.iteration} would cut {record.dead_energy:.1%} of the "
                f"energy, other trials allow {limit:.1%}"
            )

    def warned(self, message: str) -> None:
        """Let the sweep know."""
        super().warned(message)
        warn_job(self._path, message)
