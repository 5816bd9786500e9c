"""Parameters and buffers whose single entries are followed, as those of scales and tables."""

from collections.abc import Iterator

from torch import Tensor

from admm_exp.pruning.dependency.labels import Labels, compact, varying, zeroed
from admm_exp.pruning.dependency.rows import Rows
from admm_exp.pruning.dependency.tables import entries_of
from admm_exp.pruning.dependency.widths import Widths


class Elements:
    """Codes of the single entries of parameters and buffers.

    Args:
        labels: Which entries live and die together.
        widths: Channels in sight of the layers that run.
    """

    def __init__(self, labels: Labels, widths: Widths) -> None:
        self._labels, self._widths = labels, widths
        self._codes: dict[str, Tensor] = {}
        self._constants: set[str] = set()

    def of(self, name: str, tensor: Tensor, *, is_constant: bool) -> Tensor:
        """Look up the codes of a parameter, or of a buffer, which is constant."""
        self._constants |= {name} if is_constant else set()
        if name not in self._codes:
            self._codes[name] = entries_of(tensor, self._labels, self._widths.in_sight())
        return self._codes[name]

    def rows(self) -> Iterator[Rows]:
        """List, at the end of a run, those whose entries differ along one dimension alone."""
        for name, elements in self._codes.items():
            codes = compact(self._labels.find(elements))
            layer, _, tensor = name.rpartition(".")
            dims = varying(codes)
            if len(dims) == 1:
                is_unit, own = name not in self._constants, zeroed(codes.flatten())
                yield Rows(layer, tensor, dims[0], own, is_unit, is_constant=not is_unit)
            else:
                self._labels.keep(codes, f"its channels are scattered over {name}")
