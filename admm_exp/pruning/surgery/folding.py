"""Constants that removed channels leave behind, in the bias of the layer that reads them.

A channel whose unit is zero is f(0) behind an activation f, the same number in every sample and
pixel. A linear layer, or a convolution without padding, adds f(0) times its column to every output:
that is a bias. The numbers are measured, twice, and what is no constant is not folded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import SurgeryError
from admm_exp.pruning.dependency.inputs import call, to_device
from admm_exp.pruning.dependency.structures import map_tensors
from admm_exp.pruning.dependency.traced import Site
from admm_exp.pruning.surgery.groups import PrunableGroup

TOLERANCE = 1e-4
"""Largest difference between two samples of a constant, as a fraction of 1 + its size."""


def columns_to_fold(
    groups: Sequence[PrunableGroup], support: Sequence[Tensor]
) -> dict[str, tuple[Site, Tensor]]:
    """List the layers that read constants of removed channels.

    Args:
        groups: Prunable groups.
        support: (n_units,) bool per group, True = kept.

    Returns:
        Layer -> one of its sites, and which of its columns are removed, bool.
    """
    found: dict[str, tuple[Site, Tensor]] = {}
    for group, kept in zip(groups, support, strict=True):
        for site in group.sites:
            if site.fold and len(lost := site.lost(~kept.cpu())):
                fresh = torch.zeros(site.n_rows, dtype=torch.bool)
                _, is_gone = found.get(site.layer, (site, fresh))
                is_gone[lost] = True
                found[site.layer] = site, is_gone
    return found


@torch.no_grad()
def fold_(
    network: nn.Module, masked: nn.Module, columns: dict[str, tuple[Site, Tensor]], example: Any
) -> list[str]:
    """Add what removed channels leave behind to the biases of the layers that read them, in place.

    Args:
        network: Still with all of its channels.
        masked: The same with zeros in place of what is removed.
        columns: As `columns_to_fold` finds them.
        example: Inputs that the network accepts.

    Returns:
        The layers that had no bias before.

    Raises:
        SurgeryError: If a removed channel is no constant.
    """
    made = []
    has_numbers = not any(parameter.is_meta for parameter in network.parameters())
    constants = _constants(masked, columns, example) if has_numbers else {}
    for layer, (_, is_gone) in columns.items():
        module: Any = network.get_submodule(layer)
        weight = module.weight
        if module.bias is None:
            made.append(layer)
            module.bias = nn.Parameter(weight.new_zeros(len(weight)), weight.requires_grad)
        if has_numbers:
            left = constants[layer] * is_gone.to(weight.device)
            n = getattr(module, "groups", 1)
            columns_of = weight.flatten(1) if weight.dim() == 2 else weight.flatten(2).sum(2)
            parts = columns_of.unflatten(0, (n, -1)) @ left.view(n, -1, 1)
            module.bias += parts.flatten()
    return made


def _constants(
    masked: nn.Module, columns: dict[str, tuple[Site, Tensor]], example: Any
) -> dict[str, Tensor]:
    device = next(masked.parameters()).device
    seen: dict[str, list[Tensor]] = {layer: [] for layer in columns}
    with _watched(masked.eval(), seen):
        call(masked, to_device(example, device))
        with suppress(Exception):  # other inputs than these may not be taken
            call(masked, map_tensors(to_device(example, device), _other))
    found = {}
    for layer, (site, is_gone) in columns.items():
        rows = torch.cat(seen[layer])
        low, high = rows.amin(0), rows.amax(0)
        is_constant = high - low <= TOLERANCE * (1.0 + high.abs())
        if not bool(is_constant[is_gone.to(device)].all()):
            raise SurgeryError(f"its channels are not zero behind {site.fold} once removed")
        found[layer] = rows[0]
    return found


@contextmanager
def _watched(network: nn.Module, seen: dict[str, list[Tensor]]) -> Iterator[None]:
    """Note what layers are given, (places, channels), inside the `with` block."""

    def note(layer: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            axis = min(-1, 1 - module.weight.dim())
            given = inputs[0].movedim(axis if module.weight.dim() > 2 else -1, -1)
            seen[layer].append(given.reshape(-1, given.shape[-1]))

        return hook

    handles = [network.get_submodule(n).register_forward_pre_hook(note(n)) for n in seen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _other(tensor: Tensor) -> Tensor:
    """Make other inputs of the same kind: a number per place, or the same ones elsewhere."""
    if not tensor.is_floating_point():
        return tensor.flip(tuple(range(tensor.dim())))
    generator = torch.Generator().manual_seed(1)
    return tensor + torch.randn(tensor.shape, generator=generator).to(tensor)
