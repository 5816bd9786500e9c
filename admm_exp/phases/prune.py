"""The cut: from the support of Z to a smaller network."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from torch import nn

from admm_exp.phases.observers import Observer
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import LayerResult, PhaseResult


@dataclass(frozen=True)
class Cut:
    """The smaller network and what the cut did.

    Args:
        model: The smaller network.
        max_abs_difference: Largest difference between the outputs of masked and cut network.
        layers: Units before and after, per group.
        is_cut: Whether the removed units are gone; they are zeros in the network otherwise.
    """

    model: nn.Module
    max_abs_difference: float
    layers: tuple[LayerResult, ...]
    is_cut: bool


def prune(constrained: ConstrainedModel, inputs: Any, observer: Observer) -> Cut:
    """Remove the channels outside the support of Z and prove that nothing was lost.

    Args:
        constrained: The network after ADMM; left as it is.
        inputs: Real inputs on which masked and cut network are compared.
        observer: Sees the phase.

    Raises:
        SurgeryError: If the two differ by more than 1e-3.
    """
    start = perf_counter()
    observer.phase_started("prune", 0)
    small, difference = constrained.removal().finish(inputs)
    observer.phase_finished(PhaseResult("prune", perf_counter() - start, 0))
    return Cut(small, difference, layer_results(constrained), constrained.granularity.is_cut)


def layer_results(constrained: ConstrainedModel) -> tuple[LayerResult, ...]:
    """List units and kept units of every prunable group."""
    return tuple(
        LayerResult(
            name=group.name,
            channels=group.n_units,
            kept=int(kept.sum()),
            sparsity=1.0 - int(kept.sum()) / group.n_units,
            tied=group.producers,
            unit=constrained.granularity.unit,
            unit_size=constrained.granularity.unit_size(constrained.model, group),
        )
        for group, kept in zip(constrained.groups, constrained.state.support, strict=True)
    )
