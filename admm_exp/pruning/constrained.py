"""A network whose units are constrained: what ADMM knows of it, step by step."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.admm.convergence import Residuals
from admm_exp.admm.groups import ChannelGroup, Units
from admm_exp.admm.metrics import Metric, needs_scales
from admm_exp.admm.partition import Partition
from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.ramp import loosened
from admm_exp.admm.state import State, initial_state, with_rho_
from admm_exp.admm.update import update_
from admm_exp.errors import ConfigError
from admm_exp.pruning.granularity import find_units, granularity_of
from admm_exp.pruning.penalty import StepCount, penalty_hook
from admm_exp.pruning.removal import Removal
from admm_exp.pruning.surgery.groups import Prunable, PrunableGroup, slices_of
from admm_exp.pruning.surgery.sparsities import group_sparsities
from admm_exp.pruning.w_step import Constrained
from admm_exp.training.distribution import require_same


class ConstrainedModel:
    """A network, the units that are pruned in it, and the ADMM state on them.

    Args:
        model: The network; trained in place.
        example_input: Inputs that the network accepts.
        sparsity: Fraction of units that every group loses, in [0, 1).
        metric: Score of the units.
        rho: Penalty parameter, > 0.
        by_layer: Sparsity by layer name or wildcard, for the groups that differ.
        granularity: What the units are; whole channels if None.
        exclude: Layers to keep whole: names, wildcards or types.
        channel_multiple: The kept channels of a group are rounded to a multiple of this.
        keep_streams: Keep widths whole that a norm across channels counts: residual streams.
        prunable: What was found in a network of this architecture; found anew, without what
            stays whole, if None.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
        ConfigError: If `by_layer` or `exclude` names unknown layers or contradicts itself, or the
            metric means nothing for the granularity.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Any,
        *,
        sparsity: float,
        metric: Metric,
        rho: float,
        by_layer: Mapping[str, float] | None = None,
        granularity: Channel | Partition | None = None,
        exclude: Sequence[str] = (),
        channel_multiple: int = 1,
        keep_streams: bool = False,
        prunable: Prunable | None = None,
    ) -> None:
        self.model = model
        self.example_input = example_input
        self.granularity = granularity_of(granularity)
        self.prunable = prunable or find_units(
            *(model, example_input, self.granularity, exclude), keep_streams=keep_streams
        )
        self.slices = slices_of(model, self.groups)
        self.sparsities = group_sparsities(self.prunable, sparsity, by_layer or {})
        kept = [
            self.granularity.count_kept(group, sparsity, channel_multiple)
            for group, sparsity in zip(self.groups, self.sparsities, strict=True)
        ]
        self.constraint = self.granularity.constraint(model, self.groups, self.slices, kept, metric)
        require_scales(metric, self.constraint.groups)
        self.state: State = initial_state(self.weights(), self.constraint, rho)

    @property
    def groups(self) -> tuple[PrunableGroup, ...]:
        """Prunable channel groups, or layers of a finer granularity."""
        return self.prunable.groups

    @property
    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """What the constraint knows of the channel groups; only granularity channel has them."""
        assert isinstance(self.constraint, ChannelConstraint)
        return self.constraint.groups

    @property
    def rho(self) -> float:
        """Penalty parameter; setting it keeps the unscaled dual rho * U."""
        return self.state.rho

    @rho.setter
    def rho(self, value: float) -> None:
        self.state = with_rho_(self.state, self.constraint, value)

    def weights(self) -> list[Tensor]:
        """View the constrained weights W; the views alias the parameters."""
        return [s.of(self.model.get_parameter(s.parameter).detach()) for s in self.slices]

    def gradients(self) -> list[Tensor]:
        """View the gradients of the constrained weights; zeros where there is none."""
        parameters = [self.model.get_parameter(s.parameter) for s in self.slices]
        return [
            s.of(torch.zeros_like(p) if p.grad is None else p.grad)
            for s, p in zip(self.slices, parameters, strict=True)
        ]

    def penalty(
        self, optimizer: Optimizer, w_step: str = "gradient"
    ) -> AbstractContextManager[StepCount]:
        """Pull W towards Z - U at every step of the optimizer, inside the `with` block."""
        parameters = [self.model.get_parameter(s.parameter) for s in self.slices]
        constrained = Constrained(
            self.slices,
            parameters,
            lambda: self.state.targets,
            lambda: self.state.rho,
            self._masks,
        )
        return penalty_hook(optimizer, constrained, w_step)

    def loosen(self, share: float) -> None:
        """Start anew at Z = projection of W, with a share of the units to be removed.

        Args:
            share: In [0, 1].
        """
        self.state = initial_state(self.weights(), loosened(self.constraint, share), self.rho)

    def update(
        self,
        relaxation: float = 1.0,
        *,
        share: float = 1.0,
        is_frozen: bool = False,
        w_step: str = "gradient",
        dual_step: float = 1.0,
    ) -> Residuals:
        """Do the Z- and U-step.

        Args:
            relaxation: Over-relaxation in (0, 2); 1 is none.
            share: Of the units to be removed, how much is from now on, in [0, 1].
            is_frozen: Keep the support instead of choosing it anew.
            w_step: The form of the W-step before it; "reduced" let Z of the kept units follow W.
            dual_step: How much of what is left of the removed units U takes, in [0, 1].
        """
        self.state, residuals = update_(
            self.weights(),
            self.state,
            loosened(self.constraint, share),
            relaxation,
            dual_step=dual_step,
            is_frozen=is_frozen,
            follows=w_step == "reduced",
        )
        require_same("the set of kept units", list(self.state.support))
        return residuals

    def removal(self) -> Removal:
        """Describe the removal of the units that are outside the support now."""
        return self._removal_of(self.state.support)

    def settled_removal(self) -> Removal:
        """Describe the removal of the units that the last two updates both removed."""
        pairs = zip(self.state.support, self.state.earlier, strict=True)
        return self._removal_of([now | before for now, before in pairs])

    def masked(self) -> nn.Module:
        """Copy the network with every unit set to zero that is outside the support now."""
        return self.removal().masked()

    def _removal_of(self, support: Sequence[Tensor]) -> Removal:
        where = self.granularity, self.groups, self.slices
        masks = self.constraint.masks(self.state.targets, support)
        return Removal(self.model, *where, support, masks)

    def _masks(self) -> list[Tensor]:
        return self.constraint.masks(self.state.targets, self.state.support)


def require_scales(metric: Metric, groups: Sequence[Units]) -> None:
    """Refuse a metric that reads scales of norm layers where a group has none.

    Raises:
        ConfigError: With the first such group.
    """
    bare = [group.name for group in groups if not group.scale_columns]
    if needs_scales(metric) and bare:
        raise ConfigError(
            f"metric {type(metric).__name__} ranks channels by the scales of norm layers, which "
            f"{bare[0]} has not: add it to exclude in a layers file, or take another metric"
        )
