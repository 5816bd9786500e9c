"""What pruning as a library comes to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torch import nn

from admm_exp.results import EpochRecord, IterationRecord, LayerResult, PhaseResult, Stopped

if TYPE_CHECKING:
    from admm_exp.report.figures.notebook import NotebookFigure


@dataclass(frozen=True)
class PruningResult:
    """What `ADMMPruner.prune` returns; `print` shows it in a few lines, `plot` as a figure.

    Args:
        model: The small network, finetuned if that was asked for.
        accuracy_before_cut: `validate_fn` of the ADMM-trained network.
        accuracy_after_cut: `validate_fn` of the small network before finetuning.
        accuracy_recalibrated: The same after its norm layers were recalibrated; None if not asked.
        accuracy: `validate_fn` of the network returned.
        max_abs_difference: Largest difference between masked and cut network on the example input.
        layers: Channels, kept channels and work per group.
        iterations: Residuals and diagnostics per ADMM iteration.
        stopped: What ended ADMM training.
        epochs: Every epoch of all phases.
        phases: Durations.
    """

    model: nn.Module
    accuracy_before_cut: float
    accuracy_after_cut: float
    accuracy_recalibrated: float | None
    accuracy: float
    max_abs_difference: float
    layers: tuple[LayerResult, ...]
    iterations: tuple[IterationRecord, ...]
    stopped: Stopped
    epochs: tuple[EpochRecord, ...]
    phases: tuple[PhaseResult, ...]

    def __str__(self) -> str:
        """Write accuracies, channels, the cut and the end of ADMM, a line each."""
        stages = {name: f"{value:.2%}" for name, value in self._stages().items()}
        kept, n = (sum(getattr(row, key) for row in self.layers) for key in ("kept", "channels"))
        words = {"before": "before the cut", "pruned": "after it"}
        accuracies = ", ".join(f"{words.get(name, name)} {text}" for name, text in stages.items())
        groups = "1 group" if len(self.layers) == 1 else f"{len(self.layers)} groups"
        return (
            f"accuracy  {accuracies}\n"
            f"kept      {kept} of {n} {self.layers[0].unit} in {groups}\n"
            f"cut       outputs differ by at most {self.max_abs_difference:.1e}\n"
            f"ADMM      {self.stopped.iteration} iterations, ended by {self.stopped.reason}"
        )

    def plot(self) -> "NotebookFigure":
        """Draw where the accuracy went and what is left of every group.

        Returns:
            A figure of matplotlib: a notebook shows it, `savefig` keeps it.
        """
        from admm_exp.report.figures.pruning import outcome

        return outcome(self._stages(), [asdict(row) for row in self.layers], "accuracy")

    def _stages(self) -> Mapping[str, float]:
        """Return the accuracies that are known, by the names that reports give the stages."""
        stages = {"before": self.accuracy_before_cut, "pruned": self.accuracy_after_cut}
        if self.accuracy_recalibrated is not None:
            stages["recalibrated"] = self.accuracy_recalibrated
        if any(epoch.phase == "finetune" for epoch in self.epochs):
            stages["finetuned"] = self.accuracy
        return stages
