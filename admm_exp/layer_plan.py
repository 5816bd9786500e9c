"""What becomes of every layer: from a budget, a file or one sparsity to a plan."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from admm_exp.admm.metrics import Metric
from admm_exp.admm.partition import Partition
from admm_exp.admm.partitions.channel import Channel
from admm_exp.config import ExperimentConfig
from admm_exp.errors import ConfigError
from admm_exp.pruning.budget import (
    Budget,
    global_counts,
    sparsities_within,
    uniform_counts,
    unit_scores,
)
from admm_exp.pruning.layers_file import read_layers
from admm_exp.pruning.plan import Plan, Planner
from admm_exp.pruning.sensitivity import Curve, sensitivity_counts
from admm_exp.pruning.sparsities import LayerSettings, group_sparsities


def settle_layers(
    config: ExperimentConfig,
    model: nn.Module,
    example_input: Tensor,
    granularity: Channel | Partition,
    metric: Metric,
    *,
    curves: Callable[[Planner], Sequence[Curve]] | None = None,
) -> tuple[Plan | None, LayerSettings]:
    """Settle the sparsity of every group: by the budget, the user's file, or one for all.

    Args:
        config: The settings.
        model: The network; trained, where its channels are ranked.
        example_input: (B, ...) input that the network accepts, on any device.
        granularity: What the units are that are pruned.
        metric: Score of the channels.
        curves: Measures what every group costs; None before the network is trained, when
            allocation sensitivity is planned like uniform.

    Returns:
        The plan, None below the channel where nothing is cut, and the settings of the layers.

    Raises:
        ConfigError: If the file cannot be used, or the budget cannot be reached.
    """
    asked, multiple = _asked_of_layers(config), config.channel_multiple
    if not isinstance(granularity, Channel):
        return None, asked
    planner = Planner(model, example_input, asked.exclude)
    if budget := _budget_of(config):
        allocation = config.budget.allocation
        if allocation != "uniform" and hasattr(metric, "learn"):
            raise ConfigError(
                f"budget.allocation={allocation} ranks channels before gradients are known: "
                f"take another metric than {config.metric['name']}, or another allocation"
            )
        if allocation == "global":
            scores = unit_scores(model, planner, metric)
            counts = global_counts(planner, scores, multiple)
        elif allocation == "sensitivity" and curves is not None:
            counts = sensitivity_counts(planner, curves(planner), multiple)
        else:
            counts = uniform_counts(planner, multiple)
        by_layer = sparsities_within(planner, budget, counts, multiple)
        asked = replace(asked, by_layer=by_layer)
    sparsities = group_sparsities(planner.prunable, asked.default, asked.by_layer)
    return planner.plan(sparsities, multiple), asked


def _budget_of(config: ExperimentConfig) -> Budget | None:
    return next((Budget(*item) for item in config.budget.given().items()), None)


def _asked_of_layers(config: ExperimentConfig) -> LayerSettings:
    if config.layers is None:
        return LayerSettings(config.sparsity, {})
    asked = read_layers(config.layers, config.sparsity)
    if _budget_of(config) and asked.by_layer:
        raise ConfigError(
            f"layers={config.layers} and budget both choose the sparsity of layers: "
            f"give one, or a file that holds `exclude:` alone"
        )
    return asked
