"""What pruning as a library comes to."""

from dataclasses import dataclass

from torch import nn

from admm_exp.results import EpochRecord, IterationRecord, LayerResult, PhaseResult, Stopped


@dataclass(frozen=True)
class PruningResult:
    """What `ADMMPruner.prune` returns.

    Args:
        model: The small network, finetuned if that was asked for.
        accuracy_before_cut: `validate_fn` of the ADMM-trained network.
        accuracy_after_cut: `validate_fn` of the small network before finetuning.
        accuracy_recalibrated: The same after its norm layers were recalibrated; None if not asked.
        accuracy: `validate_fn` of the network returned.
        max_abs_difference: Largest difference between masked and cut network on the example input.
        layers: Channels and kept channels per group.
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
