"""The cut: from the support of Z to a smaller network."""

from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from torch import nn

from admm_exp.phases.observers import Observer
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.cost import macs_by_layer
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
    layers = layer_results(constrained, small)
    return Cut(small, difference, layers, constrained.granularity.is_cut)


def layer_results(constrained: ConstrainedModel, small: nn.Module) -> tuple[LayerResult, ...]:
    """List units, kept units and work of every prunable group, before and after the cut.

    Args:
        constrained: The network after ADMM.
        small: The network after the cut.
    """
    inputs = constrained.example_input
    before, after = _work(constrained.model, inputs), _work(small, inputs)
    return tuple(
        LayerResult(
            name=group.name,
            channels=group.n_units,
            kept=int(kept.sum()),
            sparsity=1.0 - int(kept.sum()) / group.n_units,
            tied=group.producers,
            unit=constrained.granularity.unit,
            unit_size=constrained.granularity.unit_size(constrained.model, group),
            macs=_sum_of(before, group.producers),
            kept_macs=_sum_of(after, group.producers),
        )
        for group, kept in zip(constrained.groups, constrained.state.support, strict=True)
    )


def _work(model: nn.Module, inputs: Any) -> dict[str, int] | None:
    """Count the multiply-accumulates of every layer; None where a network cannot be counted."""
    try:
        return macs_by_layer(model, inputs)
    except Exception:  # what a model raises on one sample; a finished cut is not lost for it
        return None


def _sum_of(work: dict[str, int] | None, names: Iterable[str]) -> int | None:
    return None if work is None else sum(work.get(name, 0) for name in names)
