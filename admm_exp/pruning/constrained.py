"""A network under channel constraints: what ADMM knows of it, step by step."""

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.admm.groups import ChannelGroup, Member, count_kept
from admm_exp.admm.metrics import Metric
from admm_exp.admm.progress import partial
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.residuals import Residuals
from admm_exp.admm.state import State, initial_state, with_rho
from admm_exp.admm.update import update
from admm_exp.pruning.groups import PrunableGroup, Slice, find_groups, slices_of
from admm_exp.pruning.penalty import StepCount, penalty_hook
from admm_exp.pruning.sparsities import group_sparsities
from admm_exp.pruning.surgery import cut, mask_, max_abs_difference
from admm_exp.pruning.w_step import Constrained


class ConstrainedModel:
    """A network, its channel groups and the ADMM state on them.

    Args:
        model: The network; trained in place.
        example_input: (B, ...) input that the network accepts.
        sparsity: Fraction of channels that every group loses, in [0, 1).
        metric: Score of the channels.
        rho: Penalty parameter, > 0.
        by_layer: Sparsity per layer name, for the groups that differ.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
        ConfigError: If `by_layer` names unknown layers or contradicts itself.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Tensor,
        *,
        sparsity: float,
        metric: Metric,
        rho: float,
        by_layer: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self.example_input = example_input
        self.prunable = find_groups(model, example_input)
        self.slices = slices_of(model, self.groups)
        self.sparsities = group_sparsities(self.prunable, sparsity, by_layer or {})
        self.constraint = ChannelConstraint(self._channel_groups(), metric)
        self.state: State = initial_state(self.weights(), self.constraint, rho)

    @property
    def groups(self) -> tuple[PrunableGroup, ...]:
        """Prunable channel groups."""
        return self.prunable.groups

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

    def penalty(
        self, optimizer: Optimizer, w_step: str = "gradient"
    ) -> AbstractContextManager[StepCount]:
        """Pull W towards Z - U at every step of the optimizer, inside the `with` block."""
        parameters = [self.model.get_parameter(s.parameter) for s in self.slices]
        constrained = Constrained(
            self.slices, parameters, lambda: self.state.targets, lambda: self.state.rho
        )
        return penalty_hook(optimizer, constrained, w_step)

    def loosen(self, share: float) -> None:
        """Start anew at Z = projection of W, with a share of the units to be removed.

        Args:
            share: In [0, 1].
        """
        self.state = initial_state(self.weights(), partial(self.constraint, share), self.rho)

    def update(
        self, relaxation: float = 1.0, *, share: float = 1.0, is_frozen: bool = False
    ) -> Residuals:
        """Do the Z- and U-step.

        Args:
            relaxation: Over-relaxation in (0, 2); 1 is none.
            share: Of the units to be removed, how much is from now on, in [0, 1].
            is_frozen: Keep the support instead of choosing it anew.
        """
        constraint = partial(self.constraint, share)
        self.state, residuals = update(
            self.weights(), self.state, constraint, relaxation, is_frozen=is_frozen
        )
        return residuals

    def masked(self) -> nn.Module:
        """Copy the network with every removed unit set to zero."""
        copied = copy.deepcopy(self.model)
        masks = self.constraint.masks(self.state.targets, self.state.support)
        mask_(copied, self.slices, masks)
        return copied

    def cut(self, inputs: Tensor) -> tuple[nn.Module, float]:
        """Remove the channels outside the support of Z and prove that nothing was lost.

        Args:
            inputs: (B, ...) real inputs on which masked and cut network are compared.

        Returns:
            The smaller network and the largest absolute difference between the two.

        Raises:
            SurgeryError: If they differ by more than 1e-3.
        """
        masked = self.masked()
        small = cut(masked, self.example_input, self.groups, self.state.support)
        return small, max_abs_difference(masked, small, inputs)

    def _channel_groups(self) -> tuple[ChannelGroup, ...]:
        where = {(s.parameter, s.dim, r): i for i, s in enumerate(self.slices) for r in _rows(s)}
        groups = []
        for position, (group, sparsity) in enumerate(
            zip(self.groups, self.sparsities, strict=True)
        ):
            members = tuple(
                self._member(where[name, dim, int(rows.min())], rows)
                for name, dim, rows in group.parts
            )
            kept = count_kept(group.n_units, sparsity, group.n_blocks)
            groups.append(
                ChannelGroup(group.name, group.n_units, kept, members, group.n_blocks, position)
            )
        return tuple(groups)

    def _member(self, weight: int, rows: Tensor) -> Member:
        part = self.slices[weight]
        local = rows - part.start
        is_identity = local.shape == (part.length, 1) and torch.equal(
            local[:, 0], torch.arange(part.length)
        )
        return Member(weight, part.dim, None if is_identity else local)


def _rows(part: Slice) -> range:
    return range(part.start, part.start + part.length)
