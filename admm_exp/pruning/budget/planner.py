"""What a pruning would leave: channels, parameters and operations, before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.cost.cost import Cost, count_cost, macs_by_layer, without_numbers
from admm_exp.pruning.dependency.copying import copied
from admm_exp.pruning.dependency.inputs import call, first_sample, to_device
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.groups import KeptGroup, Prunable, PrunableGroup
from admm_exp.pruning.surgery.sparsities import (
    LayerSettings,
    group_sparsities,
    without_excluded,
    without_streams,
)
from admm_exp.pruning.surgery.surgery import cut

PLANS = 16
"""Plans that a planner keeps: the jobs of a sweep mostly differ in what changes no plan."""


@dataclass(frozen=True)
class GroupPlan:
    """A channel group before and after the cut.

    Args:
        name: First layer of the group.
        tied: The other layers of the group.
        channels: Channels, or units of several, before.
        kept: Channels after.
        sparsity: Sparsity that keeps so many: the one asked for, unless that was rounded.
        params: Scalars of all channels of the group, with their norms.
        width: Channels of a unit.
        macs: Multiply-accumulates of the group's layers for one sample.
        planned_params: `params` after the cut.
        planned_macs: `macs` after the cut; other groups decide the inputs of these layers.
    """

    name: str
    tied: tuple[str, ...]
    channels: int
    kept: int
    sparsity: float
    params: int
    width: int
    macs: int
    planned_params: int
    planned_macs: int


@dataclass(frozen=True)
class Plan:
    """A network before and after the cut.

    Args:
        groups: Prunable groups.
        kept: Groups that stay whole, and why.
        dense: Cost of the network as it is.
        planned: Cost of the network after the cut, counted on a network that was cut.
    """

    groups: tuple[GroupPlan, ...]
    kept: tuple[KeptGroup, ...]
    dense: Cost
    planned: Cost


class Planner:
    """Cuts copies of a network that hold no numbers, to count what is left.

    Args:
        model: The network; left as it is.
        example_input: Inputs that the network accepts, on any device.
        exclude: Layers to keep whole: names, wildcards or types.
        keep_streams: Keep widths whole that a norm across channels counts.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
        ConfigError: If `exclude` names unknown layers.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Any,
        exclude: Sequence[str] = (),
        *,
        keep_streams: bool = False,
    ) -> None:
        example_input = to_device(example_input, next(model.parameters()).device)
        found = find_groups(model, example_input)
        found = without_excluded(found, model, exclude)
        self.prunable: Prunable = without_streams(found) if keep_streams else found
        self.model, self.example_input = _without_numbers(model, example_input)
        self.dense = count_cost(self.model, self.example_input)
        self._plans: dict[str, Plan] = {}

    def cut(self, kept: Sequence[int], model: nn.Module | None = None) -> nn.Module:
        """Cut a copy of the network down to so many channels per group.

        Args:
            kept: Channels that stay in every group, as many in each of its blocks.
            model: The network with its numbers; None for the one that holds none.
        """
        support = [
            _first_of_each_block(group, n)
            for group, n in zip(self.prunable.groups, kept, strict=True)
        ]
        return cut(self.model if model is None else model, self.prunable.groups, support)

    def sparsities(self, kept: Sequence[int]) -> dict[str, float]:
        """Name the sparsity of every group that keeps so many of its channels."""
        groups = zip(self.prunable.groups, kept, strict=True)
        return {group.name: sparsity_of(group.n_units, n) for group, n in groups}

    def cost(self, kept: Sequence[int]) -> Cost:
        """Count what a network with so many channels per group costs."""
        return count_cost(self.cut(kept), self.example_input)

    def plan(self, layers: LayerSettings, channel_multiple: int = 1) -> Plan:
        """Plan the cut that a user's sparsities ask for; one asked for again is not made again.

        Args:
            layers: Sparsities; what is excluded was left out when the groups were found.
            channel_multiple: The kept channels of a group are rounded to a multiple of this.

        Raises:
            ConfigError: If the sparsities do not fit the network.
        """
        key = repr((layers.default, dict(layers.by_layer), channel_multiple))
        if key not in self._plans:
            while len(self._plans) >= PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = self._planned(layers, channel_multiple)
        return self._plans[key]

    def _planned(self, layers: LayerSettings, channel_multiple: int) -> Plan:
        groups = self.prunable.groups
        sparsities = group_sparsities(self.prunable, layers.default, layers.by_layer)
        kept = [
            group.count_kept(sparsity, channel_multiple)
            for group, sparsity in zip(groups, sparsities, strict=True)
        ]
        small = self.cut(kept)
        before, after = (macs_by_layer(m, self.example_input) for m in (self.model, small))
        rows = tuple(
            GroupPlan(
                name=group.name,
                tied=group.producers[1:],
                channels=group.n_units,
                kept=n,
                sparsity=_unrounded(group, sparsity, n),
                width=group.width,
                params=_params_of(self.model, group, group.n_units),
                macs=sum(before.get(name, 0) for name in group.producers),
                planned_params=_params_of(small, group, n),
                planned_macs=sum(after.get(name, 0) for name in group.producers),
            )
            for group, n, sparsity in zip(groups, kept, sparsities, strict=True)
        )
        planned = count_cost(small, self.example_input)
        return Plan(rows, self.prunable.kept, self.dense, planned)


def sparsity_of(n_units: int, n_kept: int) -> float:
    """Find a short sparsity that keeps exactly so many of n channels.

    Returns:
        The smallest multiple of 1e-4 (of a smaller power of ten for more than 10,000 channels)
        at which floor(sparsity * n) is n - n_kept.
    """
    removed, digits = n_units - n_kept, max(4, len(str(n_units)))
    scale = 10**digits
    return -(-removed * scale // n_units) / scale


def _unrounded(group: PrunableGroup, sparsity: float, n_kept: int) -> float:
    is_enough = group.count_kept(sparsity) == n_kept
    return sparsity if is_enough else sparsity_of(group.n_units, n_kept)


def _without_numbers(model: nn.Module, example_input: Any) -> tuple[nn.Module, Any]:
    """Copy network and input to the meta device, or as they are where that cannot run."""
    try:
        on_meta = without_numbers(model).eval()
        blank = to_device(first_sample(example_input), "meta")
        with torch.no_grad():
            call(on_meta, blank)
    except Exception:  # what is wrong with the model itself is said where it runs with numbers
        return copied(model), example_input
    return on_meta, blank


def _first_of_each_block(group: PrunableGroup, n_kept: int) -> Tensor:
    position = torch.arange(group.n_units) % (group.n_units // group.n_blocks)
    return position < n_kept // group.n_blocks


def _params_of(model: nn.Module, group: PrunableGroup, n_units: int) -> int:
    total = 0
    for name, dim, rows in group.parts:
        parameter = model.get_parameter(name)
        total += parameter.numel() * rows.shape[1] * n_units // parameter.shape[dim]
    return total
