"""What becomes of every layer: from a budget, a file or one sparsity to settings of the layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from admm_exp.admm.metrics import Metric
from admm_exp.config import ExperimentConfig
from admm_exp.errors import ConfigError
from admm_exp.pruning.budget import (
    Budget,
    Counts,
    global_counts,
    sparsities_within,
    uniform_counts,
    unit_scores,
)
from admm_exp.pruning.layers_file import read_layers
from admm_exp.pruning.plan import Planner
from admm_exp.pruning.sensitivity import Curve, sensitivity_counts
from admm_exp.pruning.sparsities import LayerSettings


def planner_of(config: ExperimentConfig, model: nn.Module, example_input: Tensor) -> Planner:
    """Find the channel groups of an architecture, without what the user excludes.

    Args:
        config: The settings.
        model: The network; its weights do not matter.
        example_input: (B, ...) input that the network accepts, on any device.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
        ConfigError: If the layers file cannot be used.
    """
    return Planner(model, example_input, _asked_of_layers(config).exclude)


def settle_layers(
    config: ExperimentConfig,
    planner: Planner | None,
    model: nn.Module,
    metric: Metric,
    *,
    curves: Callable[[Planner], Sequence[Curve]] | None = None,
    by_latency: Callable[[Counts], Mapping[str, float]] | None = None,
) -> LayerSettings:
    """Settle the sparsity of every group: by the budget, the user's file, or one for all.

    Args:
        config: The settings.
        planner: Channel groups of the network; None below the channel, where nothing is cut.
        model: The network; trained, where its channels are ranked.
        metric: Score of the channels.
        curves: Measures what every group costs; None before the network is trained, when its
            channels cannot be ranked and every allocation is planned like uniform.
        by_latency: Measures networks and chooses the sparsity of every group by the budget; None
            before that can be done, when every group loses half of what it can.

    Raises:
        ConfigError: If the file cannot be used, or the budget cannot be reached.
    """
    asked, multiple = _asked_of_layers(config), config.channel_multiple
    given = config.budget.given()
    if planner is None or not given:
        return asked
    counts = _counts(config, planner, model, metric, curves)
    ((quantity, fraction),) = given.items()
    if quantity != "latency":
        by_layer = sparsities_within(planner, Budget(quantity, fraction), counts, multiple)
    elif by_latency is None:
        by_layer = planner.sparsities(counts(0.5))
    else:
        by_layer = dict(by_latency(counts))
    return replace(asked, by_layer=by_layer)


def _counts(
    config: ExperimentConfig,
    planner: Planner,
    model: nn.Module,
    metric: Metric,
    curves: Callable[[Planner], Sequence[Curve]] | None,
) -> Counts:
    """Share a budget among the groups: from a strength in [0, 1] to channels kept per group."""
    allocation, multiple = config.budget.allocation, config.channel_multiple
    if allocation != "uniform" and hasattr(metric, "learn"):
        raise ConfigError(
            f"budget.allocation={allocation} ranks channels before gradients are known: "
            f"take another metric than {config.metric['name']}, or another allocation"
        )
    if allocation == "uniform" or curves is None:
        return uniform_counts(planner, multiple)
    if allocation == "global":
        return global_counts(planner, unit_scores(model, planner, metric), multiple)
    return sensitivity_counts(planner, curves(planner), multiple)


def _asked_of_layers(config: ExperimentConfig) -> LayerSettings:
    if config.layers is None:
        return LayerSettings(config.sparsity, {})
    asked = read_layers(config.layers, config.sparsity)
    if config.budget.given() and asked.by_layer:
        raise ConfigError(
            f"layers={config.layers} and budget both choose the sparsity of layers: "
            f"give one, or a file that holds `exclude:` alone"
        )
    return asked
