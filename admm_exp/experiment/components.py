"""What a run works with: built once, complete, and the same for all stages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from admm_exp.admm.metrics import Metric
from admm_exp.admm.partition import Partition
from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.rho_policy import RhoPolicy
from admm_exp.data.dataset import Dataset
from admm_exp.experiment.previous import PreviousRun
from admm_exp.methods.method import Method
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.dependency.inputs import first_sample, to_device
from admm_exp.training.loop import EvaluateFn, TrainFn


@dataclass(frozen=True)
class Components:
    """Data, network, granularity, metric, method, device, and the user's functions.

    Args:
        dataset: Data on the device.
        build_model: Builds the network that the run starts from on the CPU: untrained, or that of
            the run before.
        builder: What `build_model` calls: `_target_` and arguments.
        granularity: What the units are that are pruned.
        planner: Channel groups of the network; None below the channel, where nothing is cut.
        metric: Score of the units.
        method: How the network gets small.
        rho_policy: Chooses rho of every ADMM iteration.
        device: Where training takes place.
        previous: The run that this one starts from, if it starts from one.
        train_fn: The user's (model, optimizer, epoch) -> loss or None, in place of ours.
        evaluate_fn: (model, batches) -> score in [0, 1] or Evaluation.
        has_own_score: Whether that is the user's, who may read anything off the outputs.
    """

    dataset: Dataset
    build_model: Callable[[], nn.Module]
    builder: Mapping[str, Any]
    granularity: Channel | Partition
    planner: Planner | None
    metric: Metric
    method: Method
    rho_policy: RhoPolicy
    device: torch.device
    previous: PreviousRun | None
    train_fn: TrainFn | None
    evaluate_fn: EvaluateFn
    has_own_score: bool = False

    def example_input(self) -> Any:
        """Make one blank sample, (1, C, H, W) on the device, or take one of another structure."""
        return example_input(self.dataset, self.device)


def example_input(dataset: Dataset, device: torch.device) -> Any:
    """Make one sample of a data set, on a device.

    Returns:
        Zeros, (1, C, H, W); the first sample of the data where inputs are no single tensor.
    """
    if dataset.example is not None:
        return to_device(first_sample(dataset.example), device)
    return torch.zeros(1, *dataset.shape, device=device)
