"""What can be pruned: channel groups with the weights that belong to their units."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import ModelError
from admm_exp.pruning.graph import OPTYPE, PRODUCER_TYPES, Site, TracedGroup, trace_groups


@dataclass(frozen=True)
class Slice:
    """Rows [start, start + length) of one parameter along its channel dimension.

    Args:
        parameter: Name of the parameter in the network.
        dim: Channel dimension.
        start: First row.
        length: Number of rows.
        is_whole: Whether that is the whole parameter.
    """

    parameter: str
    dim: int
    start: int
    length: int
    is_whole: bool

    def of(self, tensor: Tensor) -> Tensor:
        """View the slice in the parameter, or in a tensor shaped like it."""
        return tensor if self.is_whole else tensor.narrow(self.dim, self.start, self.length)


@dataclass(frozen=True)
class PrunableGroup:
    """A channel group that can be pruned.

    Args:
        name: Name of the first producer.
        producers: Names of all convolutions and linear layers tied into the group, in the order
            in which the network holds them.
        n_units: Number of channels.
        n_blocks: Blocks of channels that must keep the same count each.
        parts: (parameter name, channel dimension, (n_units, m) rows) of the units.
        root: Producer whose channels number the units; the group is cut by it.
    """

    name: str
    producers: tuple[str, ...]
    n_units: int
    n_blocks: int
    parts: tuple[tuple[str, int, Tensor], ...]
    root: str


@dataclass(frozen=True)
class KeptGroup:
    """A channel group that stays whole, and why."""

    name: str
    producers: tuple[str, ...]
    n_units: int
    reason: str


@dataclass(frozen=True)
class Prunable:
    """What of a network can be pruned, and what stays whole."""

    groups: tuple[PrunableGroup, ...]
    kept: tuple[KeptGroup, ...]


def find_groups(model: nn.Module, example_input: Tensor) -> Prunable:
    """Find the channel groups of a network and the scalars of their units.

    Args:
        model: The network.
        example_input: (B, ...) input that the network accepts.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
    """
    groups: list[PrunableGroup] = []
    kept: list[KeptGroup] = []
    shared = _shared_parameters(model)
    order = {name: position for position, (name, _) in enumerate(model.named_modules())}
    for traced in trace_groups(model, example_input):
        producers = tuple(sorted(_producers(traced), key=order.__getitem__))
        reason = traced.reason or _obstacle(model, traced, shared)
        group = reason or _prunable(model, traced, producers)
        if isinstance(group, PrunableGroup):
            groups.append(group)
        else:
            kept.append(KeptGroup(producers[0], producers, traced.n_units, group))
    groups.sort(key=lambda group: order[group.name])
    kept.sort(key=lambda group: order[group.name])
    if not groups:
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in kept)
        raise ModelError(
            "the model has nothing to prune"
            + (f" ({reasons})" if reasons else ", it holds no convolution or linear layer")
        )
    return Prunable(tuple(groups), tuple(kept))


def slices_of(model: nn.Module, groups: Sequence[PrunableGroup]) -> list[Slice]:
    """List the slices of parameters that the groups constrain, each exactly once.

    A parameter is split only where some of its rows belong to no group (a norm layer behind a
    concatenation with an unprunable branch).
    """
    covered: dict[tuple[str, int], Tensor] = {}
    for group in groups:
        for name, dim, rows in group.parts:
            size = model.get_parameter(name).shape[dim]
            mask = covered.setdefault((name, dim), torch.zeros(size, dtype=torch.bool))
            mask[rows.flatten()] = True
    slices = []
    for (name, dim), mask in covered.items():
        edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff().nonzero().flatten().tolist()
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            slices.append(Slice(name, dim, start, stop - start, stop - start == len(mask)))
    return slices


def _producers(traced: TracedGroup) -> set[str]:
    sites = (s for s in traced.sites if s.is_producer_side and s.type in PRODUCER_TYPES)
    return {site.module for site in sites} | {traced.root}


def _prunable(
    model: nn.Module, traced: TracedGroup, producers: tuple[str, ...]
) -> PrunableGroup | str:
    n_blocks = 1
    for site in traced.sites:
        groups = getattr(model.get_submodule(site.module), "groups", 1)
        if site.type == OPTYPE.CONV and groups > 1:
            if not site.is_identity:
                return f"{site.module} groups channels that come from several layers"
            n_blocks = lcm(n_blocks, groups)
    if traced.n_units % n_blocks or traced.n_units == n_blocks:
        return f"its {traced.n_units} channels form {n_blocks} blocks that cannot shrink alike"
    parts: list[tuple[str, int, Tensor]] = []
    for site in traced.sites:
        if site.is_producer_side:
            found = _parts(model, site)
            if isinstance(found, str):
                return found
            parts += found
    name, n_units = producers[0], traced.n_units
    return PrunableGroup(name, producers, n_units, n_blocks, tuple(parts), traced.root)


def _obstacle(model: nn.Module, traced: TracedGroup, shared: Set[nn.Parameter]) -> str | None:
    """Say which layer can neither lose channels nor have them set to zero, or None."""
    for site in traced.sites:
        layer = model.get_submodule(site.module)
        reason = _layer_obstacle(layer, site.type)
        if reason is not None:
            return f"{site.module} {reason}"
        if not shared.isdisjoint(layer.parameters(recurse=False)):
            return f"{site.module} shares a parameter with another layer"
    return None


def _layer_obstacle(layer: Any, type_: int) -> str | None:
    own = {name for name, parameter in layer._parameters.items() if parameter is not None}
    if type_ in PRODUCER_TYPES and "weight" not in own:
        return "computes its weight from other parameters"
    if type_ == OPTYPE.IN and layer.track_running_stats:
        return "normalizes single samples with running statistics"
    if type_ == OPTYPE.BN and layer.track_running_stats and not own:
        return "has no gamma and beta that could be zero"
    if type_ == OPTYPE.CONV and layer.transposed and layer.groups > 1:
        return "is a grouped transposed convolution"
    if type_ == OPTYPE.DEPTHWISE_CONV and layer.in_channels != layer.out_channels:
        return f"merges {layer.in_channels} channels into {layer.out_channels}"
    return None


def _shared_parameters(model: nn.Module) -> set[nn.Parameter]:
    uses = Counter(p for module in model.modules() for p in module.parameters(recurse=False))
    return {parameter for parameter, count in uses.items() if count > 1}


def _parts(model: nn.Module, site: Site) -> list[tuple[str, int, Tensor]] | str:
    layer: Any = model.get_submodule(site.module)
    is_transposed = site.type == OPTYPE.CONV and layer.transposed
    if site.type == OPTYPE.PRELU and layer.weight.numel() == 1:
        return []
    parts = []
    for name, parameter in layer.named_parameters(recurse=False):
        if not parameter.requires_grad:
            return f"{site.module}.{name} is frozen"
        dim = 1 if is_transposed and name == "weight" else 0
        parts.append((f"{site.module}.{name}" if site.module else name, dim, site.rows))
    if any(not _is_one_run(rows) for _, _, rows in parts):
        return f"its channels are scattered over {site.module}"
    return parts


def _is_one_run(rows: Tensor) -> bool:
    flat = rows.flatten()
    return int(flat.max()) - int(flat.min()) + 1 == flat.numel()
