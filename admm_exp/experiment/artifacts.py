"""What a run works with, and what its stages have made so far."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from admm_exp.config.settings import ExperimentConfig
from admm_exp.experiment.components import Materials
from admm_exp.phases.parts import Parts
from admm_exp.phases.prune import Cut
from admm_exp.pruning.budget.latency_budget import LatencyChoice
from admm_exp.pruning.budget.sensitivity import Curve
from admm_exp.pruning.constrained import ConstrainedModel


@dataclass(frozen=True)
class Run:
    """What all stages of a run work with.

    Args:
        config: The settings.
        materials: Data, network, metric, tracker.
        parts: Functions that train, validate and optimize, and the observer.
        run_dir: Folder of the run.
        cache_dir: Folder of dense networks shared by runs.
    """

    config: ExperimentConfig
    materials: Materials
    parts: Parts
    run_dir: Path
    cache_dir: Path


@dataclass
class Artifacts:
    """What the stages of a run have made so far; a field is set by the stage that makes it.

    Args:
        models: Accuracies and cost of dense, pruned (recalibrated) and finetuned network.
        dense: The trained network (stage dense); no later stage changes it.
        dense_key: Names all that the dense network depends on (stage dense); None if it is that
            of the run before.
        curves: What every group costs (stage sparsify), if the budget is shared by it.
        latency: The sparsities chosen by measuring (stage sparsify), if the budget is a latency.
        constrained: The network ready to be cut, and its groups (stage sparsify).
        before_cut: Accuracies of that network, and what ended its training if that is a question.
        cut: What the cut did (stage cut).
        small: The small network (stage cut), trained in place by stage finetune.
    """

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    dense: nn.Module = field(init=False)
    dense_key: str | None = None
    curves: tuple[Curve, ...] = ()
    latency: LatencyChoice | None = None
    constrained: ConstrainedModel = field(init=False)
    before_cut: dict[str, Any] = field(init=False)
    cut: Cut = field(init=False)
    small: nn.Module = field(init=False)
