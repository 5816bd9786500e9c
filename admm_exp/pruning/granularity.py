"""What the units of a granularity are to a network: how they are found, constrained and removed."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from admm_exp.admm.groups import ChannelGroup, Member, count_kept
from admm_exp.admm.metrics import Metric
from admm_exp.admm.partition import Layer, Partition, PartitionConstraint
from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.errors import ConfigError
from admm_exp.pruning.dependency.copying import copied
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.groups import Prunable, PrunableGroup, Slice, scale_columns
from admm_exp.pruning.surgery.layers import find_layers
from admm_exp.pruning.surgery.sparsities import without_excluded, without_streams
from admm_exp.pruning.surgery.surgery import cut, mask_

Constraint = ChannelConstraint | PartitionConstraint


class Granularity(Protocol):
    """One kind of units.

    Attributes:
        unit: What its units are called, in the plural.
        is_cut: Whether removed units are cut out of the network; they stay as zeros otherwise.
    """

    unit: str
    is_cut: bool

    def find(self, model: nn.Module, example_input: Any) -> Prunable:
        """Find what can be pruned.

        Raises:
            ModelError: If that is nothing, or the example input does not fit.
        """

    def constraint(
        self,
        model: nn.Module,
        groups: Sequence[PrunableGroup],
        slices: Sequence[Slice],
        kept: Sequence[int],
        metric: Metric,
    ) -> Constraint:
        """Say of how many units of every group the weights may consist.

        Args:
            model: The network.
            groups: What can be pruned in it.
            slices: The constrained weights, by parameter.
            kept: Units that stay, one number a group.
            metric: Score of the units.

        Raises:
            ConfigError: If the metric means nothing for these units.
        """

    def count_kept(self, group: PrunableGroup, sparsity: float, multiple: int) -> int:
        """Count the units of a group that stay.

        Args:
            group: The group.
            sparsity: Fraction that it loses, in [0, 1).
            multiple: What the number of kept channels is rounded to a multiple of.
        """

    def unit_size(self, model: nn.Module, group: PrunableGroup) -> int:
        """Count the channels of one unit, or the weights of a finer one."""

    def removed(
        self,
        network: nn.Module,
        groups: Sequence[PrunableGroup],
        slices: Sequence[Slice],
        support: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> nn.Module:
        """Copy a network without the units outside a support.

        Args:
            network: Of the architecture in which the groups were found.
            groups: What is pruned in it.
            slices: The constrained weights, by parameter.
            support: (n_units,) bool per group, True = kept.
            masks: The same per slice, broadcastable.
        """


class WholeChannels:
    """Channels with all that lives and dies with them; they are cut out."""

    unit = Channel.unit
    is_cut = True

    def find(self, model: nn.Module, example_input: Any) -> Prunable:
        """Find the channel groups."""
        return find_groups(model, example_input)

    def constraint(
        self,
        model: nn.Module,
        groups: Sequence[PrunableGroup],
        slices: Sequence[Slice],
        kept: Sequence[int],
        metric: Metric,
    ) -> ChannelConstraint:
        """Constrain each channel group over all its members."""
        where = {(s.parameter, s.dim, r): i for i, s in enumerate(slices) for r in _rows(s)}
        constrained = []
        for position, (group, n_kept) in enumerate(zip(groups, kept, strict=True)):
            held = [(where[name, dim, int(rows.min())], rows) for name, dim, rows in group.parts]
            members = tuple(Member(i, slices[i].dim, slices[i].local(rows)) for i, rows in held)
            columns = scale_columns(model, group)
            constrained.append(
                ChannelGroup(
                    *(group.name, group.n_units, n_kept, members, group.n_blocks, position),
                    columns,
                )
            )
        return ChannelConstraint(tuple(constrained), metric)

    def count_kept(self, group: PrunableGroup, sparsity: float, multiple: int) -> int:
        """Count the channels, or heads, of a group that stay."""
        return group.count_kept(sparsity, multiple)

    def unit_size(self, model: nn.Module, group: PrunableGroup) -> int:
        """Count the channels of one unit: 1, or the width of an attention head."""
        return group.width

    def removed(
        self,
        network: nn.Module,
        groups: Sequence[PrunableGroup],
        slices: Sequence[Slice],
        support: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> nn.Module:
        """Cut the channels out of a copy."""
        return cut(network, groups, support)


class MaskedUnits:
    """Units inside the weights of single layers; they stay in the network as zeros.

    Args:
        partition: How a weight is divided.
    """

    is_cut = False

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self.unit = partition.unit

    def find(self, model: nn.Module, example_input: Any) -> Prunable:
        """Find the weights that the partition divides."""
        return find_layers(model, example_input, self._partition)

    def constraint(
        self,
        model: nn.Module,
        groups: Sequence[PrunableGroup],
        slices: Sequence[Slice],
        kept: Sequence[int],
        metric: Metric,
    ) -> PartitionConstraint:
        """Constrain the weight of every layer."""
        parts = zip(groups, slices, kept, strict=True)
        layers = tuple(
            Layer(group.name, group.n_units, n_kept, group.n_blocks, position, part.dim)
            for position, (group, part, n_kept) in enumerate(parts)
        )
        try:
            return PartitionConstraint(self._partition, layers, metric)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def count_kept(self, group: PrunableGroup, sparsity: float, multiple: int) -> int:
        """Count the units of a layer that stay; a multiple of channels means nothing here."""
        return count_kept(group.n_units, sparsity, group.n_blocks)

    def unit_size(self, model: nn.Module, group: PrunableGroup) -> int:
        """Count the weights of one unit."""
        name, _, _ = group.parts[0]
        return model.get_parameter(name).numel() // group.n_units

    def removed(
        self,
        network: nn.Module,
        groups: Sequence[PrunableGroup],
        slices: Sequence[Slice],
        support: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> nn.Module:
        """Set the units of a copy to zero."""
        twin = copied(network)
        mask_(twin, slices, masks)
        return twin


def granularity_of(kind: Channel | Partition | None) -> Granularity:
    """Read what a user names: whole channels (also if None), or a partition of single weights."""
    return WholeChannels() if kind is None or isinstance(kind, Channel) else MaskedUnits(kind)


def find_units(
    model: nn.Module,
    example_input: Any,
    granularity: Granularity,
    exclude: Sequence[str] = (),
    *,
    keep_streams: bool = False,
) -> Prunable:
    """Find what can be pruned, without what the user excludes.

    Args:
        model: The network.
        example_input: Inputs that the network accepts.
        granularity: What the units are.
        exclude: Layers to keep whole: names, wildcards or types.
        keep_streams: Keep widths whole that a norm across channels counts.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
        ConfigError: If `exclude` names unknown layers.
    """
    found = without_excluded(granularity.find(model, example_input), model, exclude)
    return without_streams(found) if keep_streams else found


def _rows(part: Slice) -> range:
    return range(part.start, part.start + part.length)
