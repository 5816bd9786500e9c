"""Which labels form one group: units that the same layers make, alike."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import label_of

Maker = tuple[str, str, int]
LEAST_UNITS = 4
"""Smallest group that the units of layers that are tied in part are divided into."""


@dataclass(frozen=True)
class Tied:
    """Labels that are removed with one sparsity.

    Args:
        makers: What makes their channels, the one that gives the name first.
        labels: In the order of the units.
        n_blocks: Equal consecutive blocks of units that must keep the same count each.
        reason: Why the blocks cannot shrink alike, or None.
        alongside: First labels of the groups whose channels a layer counts in the same blocks.
    """

    makers: tuple[Maker, ...]
    labels: tuple[int, ...]
    n_blocks: int = 1
    reason: str | None = None
    alongside: tuple[int, ...] = ()


class Ties:
    """Groups of labels from the rows that layers share.

    Args:
        flow: What is known of the network, once it has run.
        makers: What makes channels, in the order of the network.
        roots: Label of every row of a parameter.
    """

    def __init__(
        self, flow: Flow, makers: Sequence[Maker], roots: dict[tuple[str, str, int], Tensor]
    ) -> None:
        self.flow, self.makers, self.roots = flow, list(makers), roots
        self.free = {maker: self._free(maker) for maker in makers}
        self.blocks = [
            (label_of(flow.labels.find(codes)), count, layer) for codes, count, layer in flow.blocks
        ]
        self.kinds = self._kinds().tolist()

    def groups(self) -> list[Tied]:
        """Divide all labels, in the order of the makers that name the groups."""
        found = [group for makers in self._components() for group in self._divided(makers)]
        return sorted(found, key=lambda group: self.makers.index(group.makers[0]))

    def _free(self, maker: Maker) -> list[int]:
        is_free = ~self.flow.labels.is_fixed(self.flow.rows[maker].codes)
        return list(dict.fromkeys(self.roots[maker][is_free].tolist()))

    def _components(self) -> list[list[Maker]]:
        """Join the makers that share labels, or whose channels one layer counts in blocks."""
        where: dict[int, list[Maker]] = {}
        components: list[list[Maker]] = []

        def join(makers: list[Maker], labels: Sequence[int]) -> None:
            near = {id(where[label]): where[label] for label in labels if label in where}
            joined = [maker for other in near.values() for maker in other] + makers
            components[:] = [other for other in components if id(other) not in near]
            if joined:
                joined.sort(key=self.makers.index)
                components.append(joined)
            for maker in joined:
                where.update(dict.fromkeys(self.free[maker], joined))

        for maker in self.makers:
            join([maker], self.free[maker])
        for labels, _, _ in self.blocks:
            join([], labels.unique().tolist())
        return components

    def _divided(self, makers: list[Maker]) -> list[Tied]:
        labels = list(dict.fromkeys(label for maker in makers for label in self.free[maker]))
        if not labels:  # all of its channels are fixed
            return [Tied(tuple(makers), (), 1, None, ())]
        own = set(labels)
        blocks = [entry for entry in self.blocks if not own.isdisjoint(entry[0].tolist())]
        parts = _by(labels, self.kinds.__getitem__) if len(makers) > 1 else [labels]
        least = 1 if blocks else LEAST_UNITS
        if len(parts) > len(makers) or min(map(len, parts)) < least:
            parts = [labels]
        if not blocks:
            return [Tied(self._makers_of(makers, part), tuple(part)) for part in parts]
        held, reason = _held(labels, blocks)
        firsts = tuple(part[0] for part in parts) if len(parts) > 1 else ()
        found = []
        for part in parts:
            ordered, n_blocks, obstacle = _by_block(part, held)
            if obstacle:
                obstacle += f" in {', '.join(dict.fromkeys(where for _, _, where in blocks))}"
            ours, whole = self._makers_of(makers, part), reason or obstacle
            found.append(Tied(ours, ordered, 1 if whole else n_blocks, whole, firsts))
        return found

    def _kinds(self) -> Tensor:
        """Number labels by the rows that they have in every parameter: the same for those alike."""
        kinds = torch.zeros(int(label_of(self.flow.labels.fresh(1))) + 1, dtype=torch.int64)
        n_kinds = 1
        own = {key: roots for key, roots in self.roots.items() if self.flow.rows[key].is_unit}
        for roots in {id(roots): roots for roots in own.values()}.values():
            labels, counts = roots.unique(return_counts=True)
            before = kinds[labels] * (len(roots) + 1) + counts
            found, after = before.unique(return_inverse=True)
            kinds[labels] = n_kinds + after
            n_kinds += len(found)
        return kinds

    def _makers_of(self, makers: Sequence[Maker], labels: Sequence[int]) -> tuple[Maker, ...]:
        """List the makers of labels, first one that makes no others, which can name them."""
        own = set(labels)
        ours = [maker for maker in makers if not own.isdisjoint(self.free[maker])]
        first = next((maker for maker in ours if own.issuperset(self.free[maker])), ours[0])
        return (first, *(maker for maker in ours if maker != first))


def _held(
    labels: Sequence[int], blocks: Sequence[tuple[Tensor, int, str]]
) -> tuple[dict[int, tuple[int, ...]], str | None]:
    """Count the channels of every label in every block, and say whether all blocks have as many."""
    index = {label: position for position, label in enumerate(labels)}
    counts, reason = [torch.zeros(len(labels), 0, dtype=torch.int64)], None
    for roots, count, where in blocks:
        held = torch.zeros(len(labels), count, dtype=torch.int64)
        size = len(roots) // count
        for place, root in enumerate(roots.tolist()):
            if root in index:
                held[index[root], place // size] += 1
        if len(held.sum(0).unique()) > 1:
            reason = f"{where} groups channels of which some stay"
        counts.append(held)
    rows = torch.cat(counts, 1).tolist()
    return {label: tuple(row) for label, row in zip(labels, rows, strict=True)}, reason


def _by_block(
    labels: Sequence[int], held: dict[int, tuple[int, ...]]
) -> tuple[tuple[int, ...], int, str | None]:
    """Order labels by the blocks that hold them: those of one class lose as many everywhere."""
    found = _by(labels, held.__getitem__)
    n_units, size = len(labels), gcd(*map(len, found)) or 1
    n_blocks = n_units // size
    reason = None
    if n_units == n_blocks > 1:
        reason = f"its {n_units} channels form {n_blocks} blocks that cannot shrink alike"
    return tuple(label for part in found for label in part), n_blocks, reason


def _by(labels: Sequence[int], kind: Callable[[int], Hashable]) -> list[list[int]]:
    """Divide labels by their kinds, in the order in which these come."""
    found: dict[Hashable, list[int]] = {}
    for label in labels:
        found.setdefault(kind(label), []).append(label)
    return list(found.values())
