"""What an experiment is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.admm.metrics import Metric
from admm_exp.admm.partition import Partition
from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.rho_policy import RhoPolicy
from admm_exp.data.dataset import Dataset
from admm_exp.experiment.previous import PreviousRun
from admm_exp.methods.method import Method
from admm_exp.phases.observers import Observer
from admm_exp.pruning.budget.planner import Planner
from admm_exp.tracking.tracker import Tracker
from admm_exp.training.loop import EvaluateFn, TrainFn, evaluate


@dataclass(frozen=True)
class Materials:
    """Data, network, metric, method, device, and who watches.

    Args:
        dataset: Data on the device.
        build_model: Builds the network that the run starts from on the CPU: untrained, or that of
            the run before.
        builder: What `build_model` calls: `_target_` and arguments.
        granularity: What the units are that are pruned.
        metric: Score of the units.
        method: How the network gets small.
        rho_policy: Chooses rho of every ADMM iteration.
        device: Where training takes place.
        tracker: Where parameters, curves and files go.
        observers: Who else sees the run, such as the terminal.
        planner: Channel groups of the network; None below the channel, where nothing is cut.
        previous: The run that this one starts from.
        train_fn: The user's (model, optimizer, epoch) -> loss or None, in place of ours.
        evaluate_fn: (model, batches) -> accuracy in [0, 1] or Evaluation.
    """

    dataset: Dataset
    build_model: Callable[[], nn.Module]
    builder: Mapping[str, Any]
    granularity: Channel | Partition
    metric: Metric
    method: Method
    rho_policy: RhoPolicy
    device: torch.device
    tracker: Tracker
    observers: tuple[Observer, ...] = ()
    planner: Planner | None = None
    previous: PreviousRun | None = None
    train_fn: TrainFn | None = None
    evaluate_fn: EvaluateFn = evaluate

    def example_input(self) -> Tensor:
        """Make one blank sample, (1, C, H, W) on the device."""
        return torch.zeros(1, *self.dataset.shape, device=self.device)
