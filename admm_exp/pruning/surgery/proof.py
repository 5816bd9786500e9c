"""The proof of a group: cut from a copy with random numbers, nothing may change."""

import zlib
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import ModelError, SurgeryError
from admm_exp.pruning.dependency.checks import random_place
from admm_exp.pruning.dependency.copying import copied, unwritten
from admm_exp.pruning.dependency.traced import Site, Split
from admm_exp.pruning.surgery.culprit import first_difference, named
from admm_exp.pruning.surgery.groups import PrunableGroup, in_step
from admm_exp.pruning.surgery.inside import Inside
from admm_exp.pruning.surgery.randomised import random_inputs, randomise_
from admm_exp.pruning.surgery.surgery import compare, cut, zero_

TOLERANCE = 1e-4
"""Largest difference that rounding explains, relative to the spread of the outputs."""


def prove(
    probe: "Probe",
    groups: Sequence[PrunableGroup],
    splits: Mapping[str, Sequence[Split]],
    matches: Mapping[str, Sequence[str]],
) -> tuple[list[PrunableGroup], dict[str, str]]:
    """Find the groups that can be cut without changing what the network computes, and how.

    About half of the channels of all groups are cut at once, another share of every group. Only
    where that changes something, groups whose sizes the code may compare shrink in step, and then
    parts of the groups are tried: first those that are taken apart in the same layers, whose code
    may count on a size, then halves of what is left.

    Args:
        probe: The network with what was asked of it before.
        groups: Groups to be proven.
        splits: Per group, where its channels are taken apart.
        matches: Per group, the groups that it may have to shrink with.

    Returns:
        The groups, those that have to shrink in step marked, and the reason by name of the groups
        that cannot be cut.

    Raises:
        ModelError: If the network itself gives two outputs for one input.
    """
    if (whole := probe.whole(groups, matches)) is not None:
        return whole, {}
    probe.check_randomness()
    groups = in_step(groups, matches)
    reasons = probe.culprits(_together(groups), splits)
    proven = [group for group in groups if group.name not in reasons]
    freed = probe.freed(groups, reasons, splits)
    if freed and probe.failure([*proven, *freed]) is None:
        names = {group.name for group in freed}
        reasons = {name: reason for name, reason in reasons.items() if name not in names}
        by_name = {group.name: group for group in [*proven, *freed]}
        proven = [by_name[group.name] for group in groups if group.name in by_name]
    return probe.loosened(proven), reasons


Bundle = list[PrunableGroup]


def _together(groups: Sequence[PrunableGroup]) -> list[Bundle]:
    """Bundle the groups that shrink in step."""
    bundles: dict[str, Bundle] = {}
    for group in groups:
        first = group.name if group.steps is None else group.steps.groups[0]
        bundles.setdefault(first, []).append(group)
    return list(bundles.values())


class Probe:
    """A network on random numbers, whose groups are cut to see what changes.

    No question is asked twice, also where the groups were traced anew in between.

    Args:
        model: The network; left as it is.
        example_input: Inputs that the network accepts.
    """

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        self.network = copied(model, unwritten(model)).eval()
        self.inputs = random_inputs(self.network, example_input)
        self._constants: dict[str, Tensor] = {}
        self._numbers: dict[Hashable, int] = {}
        self._failures: dict[tuple[int, ...], str | None] = {}
        self._places: dict[tuple[int, ...], str | None] = {}
        self._is_checked = False

    def whole(
        self, groups: Sequence[PrunableGroup], matches: Mapping[str, Sequence[str]]
    ) -> list[PrunableGroup] | None:
        """Prove all groups, if need be in step, or give None."""
        if not groups or self.failure(groups) is None:
            return list(groups)
        groups = in_step(groups, matches)
        return self.loosened(groups) if self.failure(groups) is None else None

    def culprits(
        self, bundles: Sequence[Bundle], splits: Mapping[str, Sequence[Split]]
    ) -> dict[str, str]:
        """Find the groups that cannot be cut, and why: those of one kind of code together."""
        if not bundles or self.failure(_flat(bundles)) is None:
            return {}
        alike: dict[tuple[str, ...], list[Bundle]] = {}
        for bundle in bundles:
            places = [where for group in bundle for where in splits[group.name]]
            kinds = tuple(sorted({where.kind for where in places}))
            alike.setdefault(kinds, []).append(bundle)
        found = self.bisected(alike.pop((), []))
        for several in alike.values():
            if (failure := self.failure(_flat(several))) is None:
                continue
            is_any = len(several) > 1 and self.failure(several[0]) is None
            reasons = self.bisected(several) if is_any else self.told(several, failure)
            found |= {
                name: f"{splits[name][0]}, and {reason}" if splits[name] else reason
                for name, reason in reasons.items()
            }
        return found

    def check_randomness(self) -> None:
        """Refuse networks that are random in evaluation mode."""
        if self._is_checked:
            return
        self._is_checked = True
        if (place := random_place(self.network, self.inputs)) is not None:
            raise ModelError(
                f"the model is random in evaluation mode: the same input twice gives two outputs, "
                f"first in {place}; let its randomness depend on self.training"
            )

    def bisected(self, bundles: Sequence[Bundle]) -> dict[str, str]:
        """Find the groups that cannot be cut, and why: in halves."""
        failure = self.failure(_flat(bundles)) if bundles else None
        if failure is None:
            return {}
        if len(bundles) == 1:
            return self.told(bundles, failure)
        half = len(bundles) // 2
        return self.bisected(bundles[:half]) | self.bisected(bundles[half:])

    def loosened(self, groups: Sequence[PrunableGroup]) -> list[PrunableGroup]:
        """Let groups shrink by themselves that need no common step."""
        loose: dict[str, PrunableGroup] = {}
        for bundle in _together(groups):
            free = [replace(group, steps=None) for group in bundle]
            if len(bundle) > 1 and self.failure(free) is None:
                loose |= {group.name: group for group in free}
        return [loose.get(group.name, group) for group in groups]

    def freed(
        self,
        groups: Sequence[PrunableGroup],
        reasons: Mapping[str, str],
        splits: Mapping[str, Sequence[Split]],
    ) -> list[PrunableGroup]:
        """List the groups that cannot shrink in step with others, but by themselves."""
        free = [replace(g, steps=None) for g in groups if g.steps and g.name in reasons]
        held = self.culprits([[group] for group in free], splits)
        return [group for group in free if group.name not in held]

    def told(self, bundles: Sequence[Bundle], failure: str) -> dict[str, str]:
        """Give all groups the reason why they fail together, with the layer where it shows."""
        groups = _flat(bundles)
        asked = self._asked(groups)
        if asked not in self._places:
            self._places[asked] = self._place(groups)
        place = self._places[asked]
        reason = f"{failure}, first in {place}" if place else failure
        return {group.name: reason for group in groups}

    def failure(self, groups: Sequence[PrunableGroup]) -> str | None:
        """Say what the cut of a part of the channels of these groups changes, or None."""
        asked = self._asked(groups)
        if asked not in self._failures:
            self._failures[asked] = self._failure(groups)
        return self._failures[asked]

    def _asked(self, groups: Sequence[PrunableGroup]) -> tuple[int, ...]:
        """Number the groups by what is cut with them."""
        contents = [_content(replace(group, example=None), {}) for group in groups]
        return tuple(self._numbers.setdefault(key, len(self._numbers)) for key in contents)

    def _pair(
        self, groups: Sequence[PrunableGroup]
    ) -> tuple[nn.Module, nn.Module, Sequence[Tensor]]:
        """Mask and cut a part of the channels of these groups, on random numbers."""
        support = _drawn(groups)
        self._restore_constants_(groups)
        masked = zero_(randomise_(self.network), groups, support)
        return masked, cut(masked, groups, support, shares_whole=True), support

    @torch.no_grad()
    def _restore_constants_(self, groups: Sequence[PrunableGroup]) -> None:
        """Give buffers the numbers back that earlier questions set to zero."""
        for name, numbers in self._constants.items():
            self.network.get_buffer(name).copy_(numbers)
        for name in {s.name for group in groups for s in group.sites if s.is_constant}:
            self._constants.setdefault(name, self.network.get_buffer(name).clone())

    def _place(self, groups: Sequence[PrunableGroup]) -> str | None:
        with suppress(Exception):  # a cut that cannot be made is told without a place
            masked, small, _ = self._pair(groups)
            return first_difference(masked, small.eval(), self.inputs, TOLERANCE)
        return None

    def _failure(self, groups: Sequence[PrunableGroup]) -> str | None:
        try:
            masked, small, support = self._pair(groups)
            inside = Inside(groups, support, TOLERANCE)
            found = compare(masked, small, self.inputs, TOLERANCE, skips_zeros=True, inside=inside)
        except SurgeryError as error:
            return str(error)
        if found.relative <= TOLERANCE:
            return None
        if found.layer:
            self._places[self._asked(groups)] = None  # said here
        changed = f"what {named(masked, found.layer)} makes" if found.layer else "the outputs"
        return f"its cut would change {changed} by {100 * found.relative:.2g} %"


def _content(item: Any, known: dict[int, Hashable]) -> Hashable:
    """Make a key of what a group holds, tensors by their numbers.

    Args:
        item: The group, or a part of it.
        known: id of a tensor -> its key.
    """
    if isinstance(item, Tensor):
        if id(item) not in known:
            known[id(item)] = item.shape, item.numpy().tobytes()
        return known[id(item)]
    if isinstance(item, tuple):
        return tuple(_content(part, known) for part in item)
    if isinstance(item, PrunableGroup | Site):
        return tuple(_content(part, known) for part in vars(item).values())
    key: Hashable = item
    return key


def _flat(bundles: Sequence[Bundle]) -> Bundle:
    return [group for bundle in bundles for group in bundle]


def _drawn(groups: Sequence[PrunableGroup]) -> list[Tensor]:
    """Draw what every group keeps: units of its own, and a share of its own.

    Groups that drew the same units would hide a missed tie between them, and groups of one size
    that keep the same number would hide code that counts one by the other. The first group of a
    size keeps the least, two fifths: what is left is run twice.
    """
    seen: Counter[int] = Counter()
    shares: dict[str, Fraction] = {}
    support = []
    for group in groups:
        name = group.name if group.steps is None else group.steps.groups[0]
        size = group.n_units // group.n_blocks
        if name not in shares:
            n = size if group.steps is None else group.steps.n_steps
            least, most = max(1, n * 2 // 5), max(1, min(n - 1, n - n * 2 // 5))
            n_kept = least + seen[n] % (most - least + 1)
            seen[n] += 1
            shares[name] = Fraction(n_kept, n)
        generator = torch.Generator().manual_seed(zlib.crc32(group.name.encode()))
        scores = torch.rand(group.n_blocks, size, generator=generator)
        support.append((scores.argsort(1).argsort(1) < int(size * shares[name])).flatten())
    return support
