"""An observer that turns what happens in a run into MLflow's curves."""

from dataclasses import asdict

from admm_exp.results import EpochRecord, IterationRecord, PhaseResult
from admm_exp.tracking.tracker import Tracker

ELSEWHERE = {"iteration", "groups", "support", "val_accuracy"}


class Curves:
    """Log `dense/*`, `admm/*` and `finetune/*` per epoch and `admm/*` per iteration.

    Args:
        tracker: Where the curves go.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def phase_started(self, name: str, epochs: int) -> None:
        """Nothing to log."""

    def epoch_finished(self, record: EpochRecord) -> None:
        """Log the numbers of an epoch at its number within the phase."""
        self._tracker.log_metrics(epoch_metrics(record), step=record.epoch)

    def iteration_finished(self, record: IterationRecord) -> None:
        """Log residuals and diagnostics of an ADMM iteration at its number.

        Groups and support stay out, and so does what its last epoch has logged already.
        """
        numbers = {f"admm/{k}": v for k, v in asdict(record).items() if k not in ELSEWHERE}
        self._tracker.log_metrics(numbers, step=record.iteration)

    def phase_finished(self, result: PhaseResult) -> None:
        """Send what is buffered at the end of a phase that trained."""
        if result.epochs:
            self._tracker.flush()

    def warned(self, message: str) -> None:
        """Keep the last warning as the tag `warning`."""
        self._tracker.set_tags({"warning": message})


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """Name the numbers of an epoch as they stand in MLflow.

    Args:
        record: One epoch of a phase.
    """
    numbers = {
        "lr": record.lr,
        "train_loss": record.train_loss,
        "val_accuracy": record.val_accuracy,
        "val_loss": record.val_loss,
        "epoch_seconds": record.seconds,
    }
    return {f"{record.phase}/{k}": v for k, v in numbers.items() if v is not None}
