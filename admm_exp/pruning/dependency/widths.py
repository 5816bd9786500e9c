"""Widths that the code of a layer can read off a tensor that it sees."""

from collections.abc import Container
from typing import Any

from torch import Tensor

from admm_exp.pruning.dependency.labels import varying


class Widths:
    """Channels in sight of every layer that runs, by their number.

    Attributes:
        matches: Codes of channels that a reshape counts, and others of as many that its code saw.
    """

    def __init__(self) -> None:
        self.matches: list[tuple[Tensor, Tensor]] = []
        self._seen: list[dict[int, list[Tensor]]] = [{}]

    def enter(self) -> None:
        """Note that a layer starts."""
        self._seen.append({})

    def leave(self) -> None:
        """Note that the running layer is done."""
        self._seen.pop()

    def see(self, codes: Any) -> None:
        """Note channels that the running layer sees."""
        if codes is not None and len(varying(codes)) == 1:
            self._seen[-1].setdefault(codes.numel(), []).append(codes.flatten())

    def in_sight(self) -> Container[int]:
        """List the numbers of channels that the running layer has seen."""
        return self._seen[-1].keys()

    def counted(self, codes: Tensor) -> None:
        """Note a reshape to so many channels; its code may have read that off others of as many."""
        if len(varying(codes)) == 1:
            own = codes.flatten()
            self.matches += [(own, other) for other in self._seen[-1].get(len(own), [])]
