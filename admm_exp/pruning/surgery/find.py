"""Find what can be pruned, and prove it on random numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from admm_exp.errors import ModelError
from admm_exp.pruning.dependency.checks import check_kind, initialise_
from admm_exp.pruning.dependency.copying import copied
from admm_exp.pruning.dependency.graph import trace_groups
from admm_exp.pruning.dependency.inputs import device_of, to_device
from admm_exp.pruning.dependency.traced import Site, TracedGroup
from admm_exp.pruning.surgery.groups import (
    KeptGroup,
    Prunable,
    PrunableGroup,
    Slice,
    slices_of,
)
from admm_exp.pruning.surgery.guesses import with_guessed_sizes
from admm_exp.pruning.surgery.proof import Probe, prove


def find_groups(model: nn.Module, example_input: Any) -> Prunable:
    """Find the channel groups of a network and the scalars of their units.

    Every group is proven: half of it is cut from a copy with random numbers, and where the
    copy then computes something else than with zeros in the same place, the group stays whole.

    Args:
        model: The network.
        example_input: What the network accepts, on its device: a tensor, a tuple of positional
            arguments, a dict of keyword arguments, or anything else as one argument. A network on
            another device than the CPU is followed as a copy on the CPU, where labels live.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
    """
    check_kind(model)
    initialise_(model, example_input)
    if device_of(example_input).type not in {"cpu", "meta"}:
        model, example_input = copied(model).cpu(), to_device(example_input, "cpu")
    search = _Search(model, example_input)
    found = search.at_once() or search.examined()
    layers = frozenset(found.choices())
    if layers:  # heads in place of widths of heads, or the other way round
        other = search.examined(layers)
        found = other if other.n_pruned() > found.n_pruned() else found.told_by(other)
        left = frozenset(found.choices())
        if left and (heads := search.examined(left, by_head=True)).n_pruned():
            found = heads if heads.n_pruned() > found.n_pruned() else found
    if not found.groups:
        told = "; ".join(f"{group.name}: {group.reason}" for group in found.kept)
        raise ModelError(
            "the model has nothing to prune"
            + (f" ({told})" if told else ", it holds no convolution or linear layer")
        )
    return Prunable(found.groups, found.kept)


@dataclass(frozen=True)
class _Examined:
    """What was found in a network, proven.

    Args:
        traced: All groups.
        groups: Those that can be pruned.
        kept: The others.
    """

    traced: Sequence[TracedGroup]
    groups: tuple[PrunableGroup, ...]
    kept: tuple[KeptGroup, ...]

    def choices(self) -> set[str]:
        """Name the layers that could keep the channels of kept groups apart in another way."""
        kept = {group.name for group in self.kept}
        return {layer for group in self.traced if group.name in kept for layer in group.choices}

    def told_by(self, other: "_Examined") -> "_Examined":
        """Take the reasons of another try where a line of code stood in the way of heads.

        That a head scales by its width is no reason to keep heads.
        """
        lines = {g.name: g.reason for g in other.kept if " takes its channels apart " in g.reason}
        kept = tuple(
            replace(group, reason=lines.get(group.name, group.reason))
            if " scales by the width of a head" in group.reason
            else group
            for group in self.kept
        )
        return replace(self, kept=kept)

    def matches(self) -> dict[str, Sequence[str]]:
        """Name the groups that every group may have to shrink with."""
        return {group.name: group.matches for group in self.traced}

    def n_pruned(self) -> int:
        """Count the rows of parameters that belong to prunable units."""
        return sum(rows.numel() for group in self.groups for _, _, rows in group.parts)


class _Search:
    """What was traced in a network and asked about it, each once.

    Args:
        model: The network.
        example_input: What the network accepts.
    """

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        self.model, self.example_input = model, example_input
        self._traced: dict[tuple[frozenset[str], bool], _Examined] = {}

    @cached_property
    def probe(self) -> Probe:
        """The network on random numbers, once it is known to accept the example input."""
        return Probe(self.model, self.example_input)

    def at_once(self) -> _Examined | None:
        """Prove all groups at once, else as many rows with all reshapes in the other way, or None.

        To find which groups fail takes many runs; where attention computes the width of its heads,
        all of its groups do, and all are proven once heads are what is removed.
        """
        found = self._unproven()
        if (whole := self._whole(found)) is not None:
            return whole
        if not (layers := frozenset(layer for group in found.traced for layer in group.choices)):
            return None
        other = self._unproven(layers)
        return self._whole(other) if other.n_pruned() >= found.n_pruned() else None

    def examined(
        self, alternatives: frozenset[str] = frozenset(), *, by_head: bool = False
    ) -> _Examined:
        """Prove the groups that can be pruned, and find those that cannot.

        Args:
            alternatives: Layers whose reshapes keep channels apart in another way.
            by_head: Whether these keep heads apart.
        """
        found = self._unproven(alternatives, by_head=by_head)
        splits = {group.name: group.splits for group in found.traced}
        proof = partial(prove, self.probe, splits=splits, matches=found.matches())
        groups, reasons = with_guessed_sizes(self.model, found.groups, splits, proof)
        reasons = {group.name: group.reason for group in found.kept} | reasons
        return _divided(found.traced, groups, reasons)

    def _whole(self, found: _Examined) -> _Examined | None:
        proven = self.probe.whole(found.groups, found.matches())
        return None if proven is None else replace(found, groups=tuple(proven))

    def _unproven(
        self, alternatives: frozenset[str] = frozenset(), *, by_head: bool = False
    ) -> _Examined:
        if (alternatives, by_head) not in self._traced:
            traced = trace_groups(self.model, self.example_input, alternatives, by_head=by_head)
            found = _unproven(self.model, self.example_input, traced)
            self._traced[alternatives, by_head] = found
        return self._traced[alternatives, by_head]


def _unproven(model: nn.Module, example_input: Any, traced: Sequence[TracedGroup]) -> _Examined:
    """Find what may be pruned."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    told = {group.name: group.reason or _obstacle(parameters, group) for group in traced}
    reasons = {name: reason for name, reason in told.items() if reason is not None}
    groups = [_prunable(group, example_input) for group in traced if group.name not in reasons]
    while scattered := _scattered(model, groups):
        reasons |= scattered
        groups = [group for group in groups if group.name not in scattered]
    return _divided(traced, groups, reasons)


def _divided(
    traced: Sequence[TracedGroup], groups: Sequence[PrunableGroup], reasons: Mapping[str, str]
) -> _Examined:
    kept = [
        KeptGroup(group.name, group.producers, group.n_units, reasons[group.name])
        for group in traced
        if group.name in reasons
    ]
    prunable = [group for group in groups if group.name not in reasons]
    return _Examined(traced, tuple(prunable), tuple(kept))


def _prunable(traced: TracedGroup, example_input: Any) -> PrunableGroup:
    units = [site for site in traced.sites if site.is_unit]
    rows = {
        id(s.unit_of): _rows(s, traced.n_units) for s in {id(s.unit_of): s for s in units}.values()
    }
    parts = [(site.name, site.dim, rows[id(site.unit_of)]) for site in units]
    return PrunableGroup(
        traced.name,
        traced.producers,
        traced.n_units,
        traced.n_blocks,
        tuple(parts),
        traced.sites,
        example=example_input if any(site.fold for site in traced.sites) else None,
    )


def _rows(site: Site, n_units: int) -> Tensor:
    return site.rows[site.unit_of.argsort(stable=True)].view(n_units, -1)


def _obstacle(parameters: Mapping[str, nn.Parameter], traced: TracedGroup) -> str | None:
    """Say which parameter cannot have rows set to zero, or None."""
    names = Counter(site.name for site in traced.sites if site.is_unit)
    for name, n_sites in names.items():
        if not parameters[name].requires_grad:
            return f"{name} is frozen"
        if parameters[name].is_complex():
            return f"{name} holds complex numbers"
        if n_sites > 1:
            return f"{name} makes its channels twice"
    return None


def _scattered(model: nn.Module, groups: Sequence[PrunableGroup]) -> dict[str, str]:
    """Name the groups whose rows in a parameter are interrupted by those of kept groups."""
    runs: dict[tuple[str, int], list[Slice]] = {}
    for part in slices_of(model, groups):
        runs.setdefault((part.parameter, part.dim), []).append(part)
    found = {}
    for group in groups:
        ends: dict[int, tuple[int, int]] = {}
        for name, dim, rows in group.parts:
            if id(rows) not in ends:
                ends[id(rows)] = int(rows.min()), int(rows.max())
            first, last = ends[id(rows)]
            if not any(s.start <= first and last < s.start + s.length for s in runs[name, dim]):
                found[group.name] = f"its channels are scattered over {name}"
    return found
