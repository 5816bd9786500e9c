"""The cut: from the support of Z to a smaller network."""

from dataclasses import dataclass
from time import perf_counter

from torch import Tensor, nn

from admm_exp.phases.parts import Observer
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import LayerResult, PhaseResult


@dataclass(frozen=True)
class Cut:
    """The smaller network and what the cut did.

    Args:
        model: The smaller network.
        max_abs_difference: Largest difference between the outputs of masked and cut network.
        layers: Channels before and after, per group.
    """

    model: nn.Module
    max_abs_difference: float
    layers: tuple[LayerResult, ...]


def prune(constrained: ConstrainedModel, inputs: Tensor, observer: Observer) -> Cut:
    """Remove the channels outside the support of Z and prove that nothing was lost.

    Args:
        constrained: The network after ADMM; left as it is.
        inputs: (B, ...) real inputs on which masked and cut network are compared.
        observer: Sees the phase.

    Raises:
        SurgeryError: If the two differ by more than 1e-3.
    """
    start = perf_counter()
    observer.phase_started("prune", 0)
    small, difference = constrained.cut(inputs)
    observer.phase_finished(PhaseResult("prune", perf_counter() - start, 0))
    return Cut(small, difference, layer_results(constrained))


def layer_results(constrained: ConstrainedModel) -> tuple[LayerResult, ...]:
    """List channels and kept channels of every prunable group."""
    return tuple(
        LayerResult(
            name=group.name,
            channels=group.n_units,
            kept=int(kept.sum()),
            sparsity=1.0 - int(kept.sum()) / group.n_units,
            tied=group.producers,
        )
        for group, kept in zip(constrained.groups, constrained.state.support, strict=True)
    )
