"""The proof of a group: cut from a copy with random numbers, nothing may change."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import ModelError, SurgeryError
from admm_exp.pruning.dependency.checks import random_place
from admm_exp.pruning.network.copying import copied
from admm_exp.pruning.network.inputs import call
from admm_exp.pruning.network.structures import map_tensors
from admm_exp.pruning.surgery.groups import PrunableGroup
from admm_exp.pruning.surgery.surgery import compare, cut, zero_

TOLERANCE = 1e-4
"""Largest difference that rounding explains, relative to the spread of the outputs."""


def unprovable(
    model: nn.Module,
    example_input: Any,
    groups: Sequence[PrunableGroup],
    splits: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Find the groups whose cut changes what the network computes.

    Half of the channels of all groups are cut at once. Only where that changes something are
    parts of the groups tried: first those that are taken apart in the same layers, whose code may
    count on a size, then halves of what is left.

    Args:
        model: The network; left as it is.
        example_input: Inputs that the network accepts.
        groups: Groups to be proven.
        splits: Per group, the layers that take its channels apart.

    Returns:
        Reason by group name.

    Raises:
        ModelError: If the network itself gives two outputs for one input.
    """
    return _Probe(model, example_input).culprits(groups, splits)


class _Probe:
    def __init__(self, model: nn.Module, example_input: Any) -> None:
        self.network = copied(model).eval()
        self.inputs = _probing(self.network, example_input)

    def culprits(
        self, groups: Sequence[PrunableGroup], splits: Mapping[str, Sequence[str]]
    ) -> dict[str, str]:
        if not groups or self.failure(groups) is None:
            return {}
        self.check_randomness()
        bundles: dict[tuple[str, ...], list[PrunableGroup]] = {}
        for group in groups:
            kinds = tuple(sorted({where.rpartition(" ")[2] for where in splits[group.name]}))
            bundles.setdefault(kinds, []).append(group)
        found = self.bisected(bundles.pop((), []))
        for bundle in bundles.values():
            if (failure := self.failure(bundle)) is not None:
                found |= {
                    group.name: f"{splits[group.name][0]} takes its channels apart, and {failure}"
                    for group in bundle
                }
        return found

    def check_randomness(self) -> None:
        if (place := random_place(self.network, self.inputs)) is not None:
            raise ModelError(
                f"the model is random in evaluation mode: the same input twice gives two outputs, "
                f"first in {place}; let its randomness depend on self.training"
            )

    def bisected(self, groups: Sequence[PrunableGroup]) -> dict[str, str]:
        failure = self.failure(groups) if groups else None
        if failure is None:
            return {}
        if len(groups) == 1:
            return {groups[0].name: failure}
        half = len(groups) // 2
        return self.bisected(groups[:half]) | self.bisected(groups[half:])

    def failure(self, groups: Sequence[PrunableGroup]) -> str | None:
        """Say what the cut of half of the channels of these groups changes, or None."""
        support = [_half(group) for group in groups]
        masked = zero_(randomise_(self.network), groups, support)
        try:
            difference = compare(masked, cut(masked, groups, support), self.inputs).relative
        except SurgeryError as error:
            return str(error)
        if difference <= TOLERANCE:
            return None
        return f"its cut would change the outputs by {100 * difference:.2g} %"


def _probing(network: nn.Module, example_input: Any) -> Any:
    """Replace floating-point inputs by random numbers, which hide nothing, where those are taken.

    Of several inputs some may be masks, boxes or lengths: those that are not constant stay.
    """
    generator = torch.Generator().manual_seed(0)
    is_alone = isinstance(example_input, Tensor)

    def drawn(tensor: Tensor) -> Tensor:
        is_constant = tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())
        if not tensor.is_floating_point() or not (is_alone or is_constant):
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor)

    inputs = map_tensors(example_input, drawn)
    if not is_alone:
        try:
            with torch.no_grad():
                call(network, inputs)
        except Exception:  # ones may be the only mask, and zeros the only offset, that it takes
            return example_input
    return inputs


def _half(group: PrunableGroup) -> Tensor:
    """Keep a random half of every block, another in every group: else a missed tie is unseen."""
    generator = torch.Generator().manual_seed(zlib.crc32(group.name.encode()))
    scores = torch.rand(group.n_blocks, group.n_units // group.n_blocks, generator=generator)
    return (scores.argsort(1).argsort(1) >= scores.shape[1] // 2).flatten()


@torch.no_grad()
def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and running statistic a random value and outputs the order of 1.

    A fresh norm (gamma 1, beta 0, mean 0, variance 1), a bias of zero or a layer scale of 1e-6
    would hide a mistake.

    Args:
        model: Changed in place, outside the global random state.
        seed: Of the values.

    Returns:
        The model.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform_(tensor: Tensor, low: float, high: float) -> None:
        values = torch.rand(tensor.shape, generator=generator) * (high - low) + low
        tensor.copy_(values)

    for parameter in model.parameters():
        if parameter.is_floating_point():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 12
            spread = (3.0 / fan_in) ** 0.5
            uniform_(parameter, -spread, spread)
    module: Any
    for module in model.modules():
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)
        if is_norm and module.weight is not None:
            uniform_(module.weight, 0.5, 1.5)
        if getattr(module, "running_mean", None) is not None:
            uniform_(module.running_mean, -0.5, 0.5)
            uniform_(module.running_var, 0.5, 1.5)
    return model
