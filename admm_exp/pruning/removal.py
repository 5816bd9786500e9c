"""What becomes of the units outside a support: masked, cut out, held at zero."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.pruning.dependency.copying import copied
from admm_exp.pruning.granularity import Granularity
from admm_exp.pruning.masked import masked
from admm_exp.pruning.surgery.groups import PrunableGroup, Slice
from admm_exp.pruning.surgery.surgery import mask_, max_abs_difference, zero_constants_


@dataclass(frozen=True)
class Removal:
    """The removal of the units outside a support, from a network and its like.

    Args:
        model: The network; left as it is.
        granularity: What the units are.
        groups: What is pruned in it.
        slices: The constrained weights, by parameter.
        support: (n_units,) bool per group, True = kept.
        masks: The same per slice, broadcastable.
    """

    model: nn.Module
    granularity: Granularity
    groups: tuple[PrunableGroup, ...]
    slices: Sequence[Slice]
    support: Sequence[Tensor]
    masks: Sequence[Tensor]

    @property
    def is_cut(self) -> bool:
        """Whether removed units are cut out of the network; they stay as zeros otherwise."""
        return self.granularity.is_cut

    def masked(self) -> nn.Module:
        """Copy the network with every removed unit set to zero."""
        twin = copied(self.model)
        mask_(twin, self.slices, self.masks)
        return zero_constants_(twin, self.groups, self.support) if self.is_cut else twin

    def shrink(self, network: nn.Module) -> nn.Module:
        """Copy another network of the same architecture without the removed units."""
        return self.granularity.removed(network, self.groups, self.slices, self.support, self.masks)

    def finish(self, inputs: Any) -> tuple[nn.Module, float]:
        """Remove the units and prove that nothing was lost.

        Args:
            inputs: Real inputs on which masked and cut network are compared.

        Returns:
            The network without the removed units, and the largest absolute difference to the masked
            one: 0 where it is the masked one.

        Raises:
            SurgeryError: If masked and cut network differ by more than 1e-3 of the outputs' spread.
        """
        masked = self.masked()
        if not self.is_cut:
            return masked, 0.0
        small = self.shrink(masked)
        return small, max_abs_difference(masked, small, inputs)

    def holding(self, optimizer: Optimizer, network: nn.Module) -> AbstractContextManager[None]:
        """Hold every removed unit of a network at exactly zero, inside the `with` block.

        Args:
            optimizer: Optimizer that trains the network.
            network: The network itself or another of its architecture, not cut.
        """
        parameters = [network.get_parameter(s.parameter) for s in self.slices]
        return masked(optimizer, parameters, self.slices, self.masks)

    def finished_training(
        self, optimizer: Optimizer, network: nn.Module
    ) -> AbstractContextManager[None]:
        """Hold what `finish` masked at exactly zero, inside the `with` block.

        Args:
            optimizer: Optimizer that trains the network.
            network: What `finish` or `shrink` returned; after a cut nothing needs to be held.
        """
        return nullcontext() if self.is_cut else self.holding(optimizer, network)
