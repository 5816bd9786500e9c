"""Entries that are not zero where their units are set to zero, and what made them so."""

from typing import NamedTuple

from torch import Tensor, isin

from admm_exp.pruning.dependency.labels import Labels, is_any_shifted, is_shifted, label_of


class Cause(NamedTuple):
    """What moved zeros.

    Args:
        what: The operation and the layer that runs it, or the layer alone.
        line: The line of code, or None inside of torch's own layers.
        is_constant: Whether the entries may be the same number for all inputs.
    """

    what: str
    line: str | None = None
    is_constant: bool = True

    def is_of(self, layer: str) -> bool:
        """Whether it is an operation in the code of this layer."""
        return self.what.endswith(f" in {layer}")

    def __str__(self) -> str:
        """Say what and where."""
        return f"{self.what} in {self.line}" if self.line else self.what


class Shifts:
    """What moved zeros, by the labels it moved.

    Args:
        labels: Which entries live and die together.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._noted: list[tuple[Tensor, Cause]] = []

    def note(self, codes: Tensor, cause: Cause) -> None:
        """Note what moved the zeros of these entries."""
        self._noted.append((codes.unique(), cause))

    def causes_of(self, codes: Tensor, here: str) -> list[Cause]:
        """List what moved the zeros of these entries.

        Args:
            codes: Codes of the entries.
            here: What to say where that is not known.

        Returns:
            Nothing if all of them are zero.
        """
        if not is_any_shifted(codes):
            return []
        wanted = label_of(self._labels.find(codes[is_shifted(codes)]))
        causes = [
            cause
            for labels, cause in self._noted
            if isin(label_of(self._labels.find(labels)), wanted).any()
        ]
        return causes or [Cause(here)]
