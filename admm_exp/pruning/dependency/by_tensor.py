"""What is known of tensors, for as long as they live."""

from functools import partial
from typing import Generic, TypeVar
from weakref import ref

from torch import Tensor

from admm_exp.pruning.dependency.labels import Labels, compact

T = TypeVar("T")
NEVER = -1
"""In place of a number of unions: codes that were not found yet."""


class ByTensor(Generic[T]):
    """A dict whose keys are tensors themselves, which it does not keep alive.

    `WeakTensorKeyDictionary` of torch does as much and more, and takes ten times as long.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[ref[Tensor], T]] = {}

    def get(self, tensor: Tensor) -> T | None:
        """Look up what is known of a tensor."""
        known = self._known.get(id(tensor))
        return None if known is None else known[1]

    def __setitem__(self, tensor: Tensor, value: T) -> None:
        """Note what is known of a tensor from now on."""
        key = id(tensor)  # nobody else's until the tensor is gone, and the entry with it
        self._known[key] = ref(tensor, partial(self._known.pop, key)), value

    def forget(self, tensor: Tensor) -> None:
        """Know nothing of a tensor any more."""
        self._known.pop(id(tensor), None)


class Marks:
    """The compact codes of tensors; found again only once labels were united in between.

    Args:
        labels: Which entries live and die together.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._known: ByTensor[tuple[Tensor, int]] = ByTensor()

    def of(self, tensor: Tensor) -> Tensor | None:
        """Look up the codes of a tensor; None if it has none."""
        codes, n_unions = self._known.get(tensor) or (None, 0)
        if codes is not None and n_unions != self._labels.n_unions:
            codes = compact(self._labels.find(codes))
            self._known[tensor] = codes, self._labels.n_unions
        return codes

    def note(self, tensor: Tensor, codes: Tensor | None) -> None:
        """Give a tensor its codes, or take them away."""
        if codes is None:
            self._known.forget(tensor)
        else:
            self._known[tensor] = compact(codes), NEVER
