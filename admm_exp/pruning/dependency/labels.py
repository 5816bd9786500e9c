"""Labels: which entries of which tensors live and die together."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

FIXED = 0
"""Code of entries that nobody removes, for no reason that has to be told."""


def label_of(codes: Tensor) -> Tensor:
    """Read the labels of codes."""
    return codes >> 1


def is_shifted(codes: Tensor) -> Tensor:
    """Tell which entries are not zero where their units are set to zero."""
    return (codes & 1).bool()


def is_any_shifted(codes: Tensor) -> bool:
    """Tell whether some entry is not zero where its unit is set to zero."""
    return bool((codes.numpy() & 1).any())


def shifted(codes: Tensor) -> Tensor:
    """Say of entries that they are not zero where their units are set to zero."""
    return codes | 1


def zeroed(codes: Tensor) -> Tensor:
    """Say of entries that they are zero where their units are set to zero."""
    return codes & ~1


def _code_of(labels: Tensor) -> Tensor:
    return labels << 1


class Labels:
    """A union-find structure on numbers, for whole tensors at once.

    Entries of tensors carry codes, 2 * label + shifted: two entries with one label can only be
    removed together, and `shifted` says that an entry is not zero when its unit is set to zero.
    Fixed labels stand for what nobody can remove; they are never united with others, but keep
    them, with their reason.

    Args:
        place: Says where the running code is, as `in conv1 (Conv2d)`.

    Attributes:
        n_unions: How often labels were united: codes that were found before are found again.
    """

    def __init__(self, place: Callable[[], str] = lambda: "") -> None:
        self._place = place
        self.n_unions = 0
        self._size = 1
        self._parent = torch.zeros(1, dtype=torch.int64)
        self._fixed: dict[int, str] = {0: "its channels are tied to a constant"}
        self._is_anywhere = {0}
        self._is_fixed = torch.ones(1, dtype=torch.bool)
        self._is_entry = torch.zeros(1, dtype=torch.bool)
        self._kept: list[tuple[Tensor, str]] = []

    def fresh(self, count: int, *, is_entry: bool = False) -> Tensor:
        """Make labels that nothing carries yet.

        Args:
            count: How many.
            is_entry: Whether they are for entries of parameters, not for channels of a layer.

        Returns:
            (count,) codes.
        """
        start = self._size
        self._size += count
        if self._size > len(self._parent):
            self._grow()
        new = torch.arange(start, self._size)
        self._parent[start : self._size] = new
        if is_entry:
            self._is_entry[start : self._size] = True
        return _code_of(new)

    def _grow(self) -> None:
        """Make room for twice as many labels as there are."""
        more = 2 * self._size - len(self._parent)
        self._parent = torch.cat([self._parent, torch.zeros(more, dtype=torch.int64)])
        self._is_fixed = torch.cat([self._is_fixed, torch.zeros(more, dtype=torch.bool)])
        self._is_entry = torch.cat([self._is_entry, torch.zeros(more, dtype=torch.bool)])

    def fixed(self, reason: str, *, is_anywhere: bool = False) -> Tensor:
        """Make a label that keeps whatever it meets.

        Args:
            reason: Why.
            is_anywhere: Whether the reason names no place: where it meets others is added.

        Returns:
            (1,) code.
        """
        code = self.fresh(1)
        self._is_fixed[self._size - 1] = True
        self._fixed[int(label_of(code))] = reason
        self._is_anywhere |= {int(label_of(code))} if is_anywhere else set()
        return code

    def find(self, codes: Tensor) -> Tensor:
        """Replace every label by the one that stands for all it was united with."""
        own = codes.numpy()  # with few entries numpy takes a third of torch's time
        return torch.from_numpy(np.asarray((self._stands_for(own >> 1) << 1) | (own & 1)))

    def is_fixed(self, codes: Tensor) -> Tensor:
        """Tell which entries nobody can remove."""
        return self._is_fixed[self._roots(label_of(codes))]

    def is_entry(self, codes: Tensor) -> Tensor:
        """Tell which labels stand for entries of parameters, perhaps for channels too."""
        return self._is_entry[self._roots(label_of(codes))]

    def unite(self, a: Tensor, b: Tensor) -> Tensor:
        """Tie the entries of two broadcastable tensors of codes together.

        Returns:
            Codes of the result; an entry is shifted where one of the two is.
        """
        a, b = torch.broadcast_tensors(self.find(a), self.find(b))
        fixed_a, fixed_b = self._is_fixed[label_of(a)], self._is_fixed[label_of(b)]
        if fixed_a.any() or fixed_b.any():
            self._keep_by_fixed(b[fixed_a & ~fixed_b], a[fixed_a & ~fixed_b])
            self._keep_by_fixed(a[fixed_b & ~fixed_a], b[fixed_b & ~fixed_a])
            is_free = ~fixed_a & ~fixed_b
            self._unite(label_of(a[is_free]), label_of(b[is_free]))
        else:
            self._unite(label_of(a).flatten(), label_of(b).flatten())
        united = zeroed(self.find(torch.where(fixed_a, b, a)))
        return torch.where(is_shifted(a) | is_shifted(b), shifted(united), united)

    def keep(self, codes: Tensor, reason: str) -> None:
        """Note that the units of these entries cannot be removed."""
        free = codes[~self.is_fixed(codes)]
        if len(free):
            self._kept.append((label_of(free).unique(), reason))

    def reason_of(self, codes: Tensor, place: str) -> str:
        """Say why the first fixed entry cannot be removed, and where if the reason names none."""
        label = int(label_of(self.find(codes[self.is_fixed(codes)][0])))
        return f"{self._fixed[label]} {place}" if label in self._is_anywhere else self._fixed[label]

    def reasons(self) -> dict[int, str]:
        """List the labels whose units cannot be removed, each with its first reason."""
        found: dict[int, str] = {}
        for labels, reason in self._kept:
            for label in self._roots(labels).unique().tolist():
                found.setdefault(label, reason)
        return found

    def _keep_by_fixed(self, codes: Tensor, fixed: Tensor) -> None:
        for label in label_of(fixed).unique().tolist():
            own = codes[label_of(fixed) == label]
            self.keep(own, self.reason_of(_code_of(torch.tensor([label])), self._place()))

    def _unite(self, a: Tensor, b: Tensor) -> None:
        while True:
            a, b = self._roots(a), self._roots(b)
            differ = a != b
            if not differ.any():
                return
            self.n_unions += 1
            a, b = a[differ], b[differ]
            self._parent.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")

    def _roots(self, labels: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self._stands_for(labels.numpy())))

    def _stands_for(self, labels: Any) -> Any:
        """Follow labels to the smallest that each was united with, and shorten the way there."""
        parent = self._parent.numpy()
        found = parent[labels]
        if ((above := parent[found]) == found).all():
            return found
        while not (above == found).all():
            found, above = above, parent[above]
        parent[labels] = found
        return found


def compact(codes: Tensor) -> Tensor:
    """Shrink every dimension along which the codes do not change to size 1."""
    for dim, size in enumerate(codes.shape):
        if size > 1 and codes.stride(dim) == 0:
            codes = codes.narrow(dim, 0, 1)
    for dim, size in enumerate(codes.shape):
        if size > 1:
            own = codes.numpy()
            if (own == own.take([0], dim)).all():
                codes = codes.narrow(dim, 0, 1)
    return codes


def varying(codes: Tensor) -> list[int]:
    """List the dimensions along which compact codes change."""
    return [dim for dim, size in enumerate(codes.shape) if size > 1]
