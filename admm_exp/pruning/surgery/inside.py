"""What layers inside of a masked and a cut network make, where the kept channels are known.

A chain forgets: behind every layer with no way around it, a difference is a quarter to nine tenths
of what it was, and what a wrong group changes may be less than rounding in the outputs.
"""

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.outputs import ROUNDING, Difference, difference, is_measurable
from admm_exp.pruning.surgery.groups import PrunableGroup

EVERY = 5
"""Layers from one that is looked at to the next, a prime: layers may take turns."""
LINEAR = (nn.Linear, nn.modules.conv._ConvNd)

Made = list[tuple[str, Tensor]]
"""Names of layers with what they made, in the order in which they ran."""


@dataclass(frozen=True)
class Inside:
    """What layers inside of a masked and a cut network make.

    Args:
        groups: Prunable groups.
        support: (n_units,) bool per group, True = kept.
        tolerance: Largest difference that rounding explains, relative to the spread.
    """

    groups: Sequence[PrunableGroup]
    support: Sequence[Tensor]
    tolerance: float

    def difference(self, masked: nn.Module, expected: Made, got: Made) -> Difference | None:
        """Find the first layer that makes something else in the cut network.

        Args:
            masked: The network with all of its channels.
            expected: What layers of the masked network made.
            got: What those of the cut network made.
        """
        kept = self._kept(masked, {name for name, _ in expected})
        for (name, whole), (other, after) in zip(expected, got, strict=False):
            if name != other:  # another way through the network
                return None
            before = _part(whole, *kept[name]) if name in kept else whole
            if before.shape == after.shape and not self._is_rounding(before, after):
                found = difference(_without_nan(before), _without_nan(after))
                if found.relative > self.tolerance:
                    return replace(found, layer=name)
        return None

    def _kept(self, masked: nn.Module, layers: Set[str]) -> dict[str, tuple[int, Tensor]]:
        """Tell which channels stay of what layers make, and in which dimension they are."""
        stay: dict[str, tuple[int, Tensor]] = {}
        for group, kept in zip(self.groups, self.support, strict=True):
            for site in group.sites:
                if site.tensor != "weight" or site.layer not in layers:
                    continue
                module: Any = masked.get_submodule(site.layer)
                if site.dim == int(getattr(module, "transposed", False)):
                    every = torch.ones(site.n_rows, dtype=torch.bool)
                    _, stays = stay.setdefault(site.layer, (1 - module.weight.dim(), every))
                    stays[site.lost(~kept)] = False
        return stay

    def _is_rounding(self, a: Tensor, b: Tensor) -> bool:
        """Whether entries are surely close, without what a spread costs; not where one is NaN."""
        return bool((a - b).abs().amax() <= ROUNDING * self.tolerance * a.abs().amax())


@contextmanager
def noted(network: nn.Module, is_asked: bool) -> Iterator[Made]:
    """Note what every fifth convolution or linear layer makes, inside the `with` block.

    Nothing is copied: what one network writes into it afterwards, the other one does as well.

    Args:
        network: Its layers count in the order in which it holds them.
        is_asked: Whether anything is to be noted.
    """
    made: Made = []
    if not is_asked:
        yield made
        return

    def begin(*_: Any) -> None:  # also of a second try
        made.clear()

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
            if is_measurable(outputs):
                made.append((name, outputs))

        return hook

    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, LINEAR)]
    handles = [
        module.register_forward_hook(note(name)) for name, module in layers[EVERY - 1 :: EVERY]
    ]
    handles.append(network.register_forward_pre_hook(begin))
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()


def _part(whole: Tensor, axis: int, stays: Tensor) -> Tensor:
    """Select channels, where a layer of its own kind has not made something else of them."""
    has_all = whole.dim() >= -axis and whole.shape[axis] == len(stays)
    return whole.index_select(axis, stays.nonzero().flatten()) if has_all else whole


def _without_nan(tensor: Tensor) -> Tensor:
    """Nobody may read what is not a number in both."""
    return tensor.nan_to_num(0.0, torch.inf, -torch.inf)
