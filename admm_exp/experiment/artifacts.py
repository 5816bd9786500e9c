"""What the stages of a run make, one record a stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from admm_exp.phases.prune import Cut
from admm_exp.pruning.budget.latency_budget import LatencyChoice
from admm_exp.pruning.budget.sensitivity import Curve
from admm_exp.pruning.constrained import ConstrainedModel


@dataclass(frozen=True)
class Folders:
    """Where a run puts what it makes.

    Args:
        run_dir: Its own folder.
        cache_dir: Dense networks shared by runs.
    """

    run_dir: Path
    cache_dir: Path


@dataclass(frozen=True)
class Dense:
    """The network before any pruning.

    Args:
        network: The trained network; no later stage changes it.
        key: Names all that it depends on; None if it is that of the run before.
        measured: Its accuracies and cost.
    """

    network: nn.Module
    key: str | None
    measured: dict[str, Any]


@dataclass(frozen=True)
class Sparse:
    """A copy of the dense network that is ready to be cut.

    Args:
        constrained: The network, its groups and their support.
        before_cut: Its accuracies, and what ended its training if that is a question.
        curves: What every group costs, if the budget is shared by it.
        latency: The sparsities chosen by measuring, if the budget is a latency.
    """

    constrained: ConstrainedModel
    before_cut: dict[str, Any]
    curves: tuple[Curve, ...]
    latency: LatencyChoice | None


@dataclass(frozen=True)
class Small:
    """The network without the removed units.

    Args:
        network: What the last training starts from, and trains in place.
        cut: What the cut did.
        is_fresh: Whether the network starts from random weights, not from those of the cut.
        measured: Accuracies and cost right after the cut: pruned, and recalibrated if it was.
    """

    network: nn.Module
    cut: Cut
    is_fresh: bool
    measured: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Artifacts:
    """What a run has made.

    Args:
        dense: The network before.
        sparse: The network ready to be cut.
        small: The network after, trained.
        models: Accuracies and cost by name, in the order in which they came about.
    """

    dense: Dense
    sparse: Sparse
    small: Small
    models: dict[str, dict[str, Any]]

    def networks(self) -> dict[str, nn.Module]:
        """Name the networks before and after."""
        return {"dense": self.dense.network, "small": self.small.network}
