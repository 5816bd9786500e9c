"""Units inside one weight: each layer on its own, masked and never cut."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from admm_exp.admm.energies import Energies
from admm_exp.admm.groups import check_counts
from admm_exp.admm.metrics import Metric, compares_units
from admm_exp.admm.projection import best_units


class Partition(Protocol):
    """Divides the scalars of one weight into units of equal size, each scalar into one unit.

    Weights are (out, in, *kernel) here: the rows compute the outputs, a linear layer has no kernel.

    Attributes:
        name: Of the granularity, as a user types it.
        unit: What its units are called, in the plural.
        has_comparable_units: Whether a distance between two units says that one can replace the
            other, which `fpgm` needs.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    has_comparable_units: ClassVar[bool] = False

    def obstacle(self, shape: Sequence[int]) -> str | None:
        """Say why a weight of this shape has to stay whole, or None."""
        return None

    def count_blocks(self, shape: Sequence[int]) -> int:
        """Count the equal consecutive blocks of units that must keep the same count each."""
        return 1

    def units(self, weight: Tensor) -> Tensor:
        """Lay a weight out as (n_units, p), one row a unit; may alias the weight."""

    def spread(self, kept: Tensor, shape: Sequence[int]) -> Tensor:
        """Turn (n_units,) bool into a bool mask that broadcasts against a weight of this shape."""


@dataclass(frozen=True)
class Layer:
    """The units of one weight.

    Args:
        name: Layer, as a user knows it.
        n_units: Number of units.
        n_kept: Number of units that stay, in [1, n_units] and a multiple of n_blocks.
        n_blocks: Equal consecutive blocks of units that must keep the same count each.
        position: Position of the layer in the plan; seeds `random`.
        dim: Output dimension of the weight, 1 for transposed convolutions.
        scale_columns: Empty; a layer's weight holds no scale of a norm layer.
    """

    name: str
    n_units: int
    n_kept: int
    n_blocks: int = 1
    position: int = 0
    dim: int = 0
    scale_columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_counts(self.name, self.n_units, self.n_kept, self.n_blocks)


@dataclass(frozen=True)
class PartitionConstraint:
    """At most k_l non-zero units in the weight of every layer l, ranked by one metric.

    With `L2Norm` the selection is the exact Euclidean projection, because the units are disjoint;
    other metrics are heuristics.

    Args:
        partition: How a weight is divided.
        groups: One layer a constrained weight, in the same order.
        metric: Score of the units.

    Raises:
        ValueError: If the metric compares units that cannot be compared.
    """

    partition: Partition
    groups: tuple[Layer, ...]
    metric: Metric

    def __post_init__(self) -> None:
        if compares_units(self.metric) and not self.partition.has_comparable_units:
            name = type(self.metric).__name__.lower()
            raise ValueError(
                f"metric {name} ranks units by their distances, which says nothing about the "
                f"{self.partition.unit} of granularity {self.partition.name}: "
                f"take l2_norm, l1_norm or random, or granularity channel, filter or shape"
            )

    def select(self, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Choose the support: (n_units,) bool per layer, True = kept."""
        pairs = zip(self.unit_matrices(weights), self.groups, strict=True)
        return best_units((self.metric(theta, layer) for theta, layer in pairs), self.groups)

    def select_signed(
        self, weights: Sequence[Tensor], signs: Sequence[Tensor]
    ) -> tuple[Tensor, ...] | None:
        """Ask for the products of weights and signs: None."""
        return None

    def energies(self, weights: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Sum the squares of every unit: (n_units,) per layer."""
        return tuple(theta.square().sum(dim=1) for theta in self.unit_matrices(weights))

    def energies_with(self, weights: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Energies]:
        """Sum the squares of W, T and W - T of every unit."""
        parts = zip(weights, targets, self.groups, strict=True)
        return [self._measured(w.float(), t, layer, None) for w, t, layer in parts]

    def turn_(
        self,
        weights: Sequence[Tensor],
        targets: Sequence[Tensor],
        is_w: Sequence[Tensor],
        squares: Tensor | None = None,
    ) -> tuple[list[Energies], Tensor | None]:
        """Sum up the same, and turn T in the same pass; nothing is kept for the next call."""
        masks = self.spread(targets, [own.float() for own in is_w])
        parts = zip(weights, targets, self.groups, masks, strict=True)
        return [self._measured(w.float(), t, layer, mask) for w, t, layer, mask in parts], None

    def _measured(self, w: Tensor, t: Tensor, layer: Layer, is_w: Tensor | None) -> Energies:
        def energies(tensor: Tensor) -> Tensor:
            return self.partition.units(tensor.movedim(layer.dim, 0)).square().sum(dim=1)

        measured = energies(w), energies(t)
        away = w - t if is_w is None else t.sub_(w)
        found = Energies(*measured, energies(away))
        if is_w is not None:
            t.lerp_(w, is_w.expand_as(w))
        return found

    def unit_matrices(self, weights: Iterable[Tensor]) -> Iterator[Tensor]:
        """Lay the units out: (n_units, p) per layer, one row a unit; may alias the weights."""
        return (
            self.partition.units(weight.movedim(layer.dim, 0))
            for weight, layer in zip(weights, self.groups, strict=True)
        )

    def masks(self, weights: Sequence[Tensor], support: Sequence[Tensor]) -> list[Tensor]:
        """Spread a support over the weights: broadcastable bool masks, True = kept."""
        return self.spread(weights, support)

    def spread(self, weights: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        """Spread a value of every unit over the weights: broadcastable, to be read only."""
        return [
            self.partition.spread(own, weight.movedim(layer.dim, 0).shape).movedim(0, layer.dim)
            for weight, layer, own in zip(weights, self.groups, values, strict=True)
        ]
