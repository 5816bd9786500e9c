"""A network whose units are constrained: what ADMM knows of it, step by step."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.admm.groups import ChannelGroup, Member, Units, count_kept
from admm_exp.admm.metrics import Metric, needs_scales
from admm_exp.admm.partition import Layer, Partition, PartitionConstraint
from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.ramp import loosened
from admm_exp.admm.residuals import Residuals
from admm_exp.admm.state import State, following, initial_state, with_rho
from admm_exp.admm.update import update
from admm_exp.errors import ConfigError
from admm_exp.pruning.masked import masked
from admm_exp.pruning.network.copying import copied
from admm_exp.pruning.penalty import StepCount, penalty_hook
from admm_exp.pruning.surgery.groups import Prunable, PrunableGroup, Slice, scale_columns, slices_of
from admm_exp.pruning.surgery.layers import find_units
from admm_exp.pruning.surgery.sparsities import group_sparsities
from admm_exp.pruning.surgery.surgery import cut, mask_, max_abs_difference
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
        prunable: What was found in a network of this architecture; found anew, without `exclude`,
            if None.

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
        prunable: Prunable | None = None,
    ) -> None:
        self.model = model
        self.example_input = example_input
        self.granularity = granularity or Channel()
        self.channel_multiple = channel_multiple
        self.prunable = prunable or find_units(model, example_input, self.granularity, exclude)
        self.slices = slices_of(model, self.groups)
        self.sparsities = group_sparsities(self.prunable, sparsity, by_layer or {})
        self.constraint = self._constraint(metric)
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
        self.state = with_rho(self.state, self.constraint, value)

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

    def masked_training(self, optimizer: Optimizer) -> AbstractContextManager[None]:
        """Hold every removed unit at exactly zero, inside the `with` block."""
        return self._holding(optimizer, self.model)

    def finished_training(
        self, optimizer: Optimizer, network: nn.Module
    ) -> AbstractContextManager[None]:
        """Hold what `finish` masked at exactly zero, inside the `with` block.

        Args:
            optimizer: Optimizer that trains the network.
            network: What `finish` or `shrink` returned; after a cut nothing needs to be held.
        """
        return nullcontext() if self.is_cut else self._holding(optimizer, network)

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
    ) -> Residuals:
        """Do the Z- and U-step.

        Args:
            relaxation: Over-relaxation in (0, 2); 1 is none.
            share: Of the units to be removed, how much is from now on, in [0, 1].
            is_frozen: Keep the support instead of choosing it anew.
            w_step: The form of the W-step before it; "reduced" let Z of the kept units follow W.
        """
        weights, state = self.weights(), self.state
        if w_step == "reduced":
            state = following(state, weights, self.constraint)
        constraint = loosened(self.constraint, share)
        self.state, residuals = update(weights, state, constraint, relaxation, is_frozen=is_frozen)
        require_same("the set of kept units", list(self.state.support))
        return residuals

    def unit_size(self, group: PrunableGroup) -> int:
        """Count the channels of one unit, or the weights of a finer one."""
        if self.is_cut:
            return group.width
        name, _, _ = group.parts[0]
        return self.model.get_parameter(name).numel() // group.n_units

    @property
    def is_cut(self) -> bool:
        """Whether removed units are cut out of the network; they stay as zeros otherwise."""
        return isinstance(self.granularity, Channel)

    def masked(self) -> nn.Module:
        """Copy the network with every removed unit set to zero."""
        twin = copied(self.model)
        mask_(twin, self.slices, self._masks())
        return twin

    def shrink(self, network: nn.Module) -> nn.Module:
        """Copy another network of the same architecture without the removed units."""
        if self.is_cut:
            return cut(network, self.groups, self.state.support)
        twin = copied(network)
        mask_(twin, self.slices, self._masks())
        return twin

    def finish(self, inputs: Any) -> tuple[nn.Module, float]:
        """Cut the removed channels out, or mask the removed units of a finer granularity.

        Args:
            inputs: Real inputs on which masked and cut network are compared.

        Returns:
            The network without the removed units, and the largest absolute difference to the masked
            one: 0 where it is the masked one.

        Raises:
            SurgeryError: If masked and cut network differ by more than 1e-3.
        """
        return self.cut(inputs) if self.is_cut else (self.masked(), 0.0)

    def cut(self, inputs: Any) -> tuple[nn.Module, float]:
        """Remove the channels outside the support of Z and prove that nothing was lost.

        Args:
            inputs: Real inputs on which masked and cut network are compared.

        Returns:
            The smaller network and the largest absolute difference between the two.

        Raises:
            SurgeryError: If they differ by more than 1e-3.
        """
        masked = self.masked()
        small = cut(masked, self.groups, self.state.support)
        return small, max_abs_difference(masked, small, inputs)

    def _masks(self) -> list[Tensor]:
        return self.constraint.masks(self.state.targets, self.state.support)

    def _holding(self, optimizer: Optimizer, network: nn.Module) -> AbstractContextManager[None]:
        parameters = [network.get_parameter(s.parameter) for s in self.slices]
        return masked(optimizer, parameters, self.slices, self._masks())

    def _constraint(self, metric: Metric) -> ChannelConstraint | PartitionConstraint:
        if isinstance(self.granularity, Channel):
            return ChannelConstraint(self._channel_groups(), metric)
        layers = tuple(
            Layer(
                group.name,
                group.n_units,
                count_kept(group.n_units, sparsity, group.n_blocks),
                group.n_blocks,
                position,
                part.dim,
            )
            for position, (group, part, sparsity) in enumerate(
                zip(self.groups, self.slices, self.sparsities, strict=True)
            )
        )
        try:
            return PartitionConstraint(self.granularity, layers, metric)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _channel_groups(self) -> tuple[ChannelGroup, ...]:
        where = {(s.parameter, s.dim, r): i for i, s in enumerate(self.slices) for r in _rows(s)}
        groups = []
        for position, (group, sparsity) in enumerate(
            zip(self.groups, self.sparsities, strict=True)
        ):
            held = [(where[name, dim, int(rows.min())], rows) for name, dim, rows in group.parts]
            members = tuple(
                Member(i, self.slices[i].dim, self.slices[i].local(rows)) for i, rows in held
            )
            kept = group.count_kept(sparsity, self.channel_multiple)
            groups.append(
                ChannelGroup(
                    group.name,
                    group.n_units,
                    kept,
                    members,
                    group.n_blocks,
                    position,
                    scale_columns(self.model, group),
                )
            )
        return tuple(groups)


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


def _rows(part: Slice) -> range:
    return range(part.start, part.start + part.length)
