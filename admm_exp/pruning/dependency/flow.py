"""What is known of the channels of a network while it runs."""

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.buffers import Buffers
from admm_exp.pruning.dependency.by_tensor import ByTensor, Marks
from admm_exp.pruning.dependency.elements import Elements
from admm_exp.pruning.dependency.labels import (
    Labels,
    compact,
    is_shifted,
    label_of,
    shifted,
    varying,
    zeroed,
)
from admm_exp.pruning.dependency.rows import Rows
from admm_exp.pruning.dependency.running import Running
from admm_exp.pruning.dependency.shifts import Cause, Shifts
from admm_exp.pruning.dependency.sizes import Sizes
from admm_exp.pruning.dependency.sketch import Sketch
from admm_exp.pruning.dependency.structures import tensors_in
from admm_exp.pruning.dependency.widths import Widths


class Flow(Running):
    """What is known of a network while it runs.

    Args:
        model: The network.
        alternatives: As `Sizes` takes them.
        is_sketched: Whether large products need not be computed, see `Sketch`.
        by_head: Likewise.

    Attributes:
        labels: Which channels live and die together.
        rows: Rows of parameters and buffers, in the order in which they were met.
        makers: (layer, parameter, dimension) that makes channels -> how many.
        blocks: (codes of the channels, number of blocks that must keep the same count, layer).
        splits: (codes, layer, line of code) of channels that a reshape or a split takes apart.
        tied: (codes, place) where channels were tied to one another.
        sizes: What is known of sizes among the attributes of modules.
        widths: Channels that running layers see.
        shifts: What made entries other than zero where their units are zero.
        met: Names of the parameters that were used.
        buffers: Buffers of the network.
        moved: Whether operations move zeros, by what they were asked with.
        views: Turned view of a parameter -> the parameter, and which of its dimensions are where.
        constants: Turned view of a buffer -> layer and buffer, likewise.
    """

    def __init__(
        self,
        model: nn.Module,
        alternatives: frozenset[str] = frozenset(),
        *,
        is_sketched: bool = False,
        by_head: bool = False,
    ) -> None:
        super().__init__(model)
        self.sketch = Sketch(is_sketched)
        self.labels = Labels(lambda: self.at_line(f"in {self.here}"))
        self.rows: dict[tuple[str, str, int], Rows] = {}
        self.makers: dict[tuple[str, str, int], int] = {}
        self.blocks: list[tuple[Tensor, int, str]] = []
        self.splits: list[tuple[Tensor, str, str | None]] = []
        self.tied: list[tuple[Tensor, str]] = []
        self.sizes = Sizes(alternatives, by_head=by_head)
        self.met: set[str] = set()
        self.widths = Widths()
        self.shifts = Shifts(self.labels)
        self.is_inside_layer = False
        self.views: ByTensor[Any] = ByTensor()
        self.constants: ByTensor[Any] = ByTensor()
        self._marks = Marks(self.labels)
        self._elements = Elements(self.labels, self.widths)
        self._looks: dict[tuple[str, str, int], str] = {}
        self.buffers = Buffers(model)
        self.moved: dict[Hashable, Tensor] = {}

    def enter(self, name: str, inputs: Any) -> None:
        """Note that a layer starts, with what it is given."""
        self.running.append(name)
        self.widths.enter()
        self._see(inputs)

    def leave(self, outputs: Any) -> None:
        """Note that the running layer is done; its outputs are seen by the layer around it."""
        self.running.pop()
        self.widths.leave()
        self._see(outputs)

    def _see(self, tensors: Any) -> None:
        for tensor in tensors_in(tensors):
            self.widths.see(self.codes(tensor))

    def codes(self, tensor: Any) -> Tensor | None:
        """Look up the compact codes of a tensor; None if its entries are not followed."""
        if not isinstance(tensor, Tensor):
            return None
        if (known := self._marks.of(tensor)) is not None:
            return known
        if tensor.numel() > 1 and (id(tensor) in self._owner or self.buffers.is_line(tensor)):
            return compact(self.labels.find(self._elements_of(tensor)))
        return None

    def mark(self, tensor: Tensor, codes: Tensor | None) -> None:
        """Give a tensor its codes, broadcastable to its shape and with as many dimensions."""
        assert codes is None or codes.dim() == tensor.dim(), (codes.shape, tensor.shape)
        self._marks.note(tensor, codes)

    def keep(self, codes: Tensor, reason: str) -> None:
        """Keep the units of these entries, because of the line of code that runs."""
        self.labels.keep(codes, self.at_line(reason))

    def keep_all(self, tensors: Iterable[Tensor | None], reason: str) -> None:
        """Keep the units of all entries of these tensors, likewise."""
        for tensor in tensors:
            if (codes := self.codes(tensor)) is not None:
                self.keep(codes, reason)

    def is_bare(self, codes: Tensor) -> bool:
        """Whether nothing that a layer makes is tied to these entries of parameters."""
        is_maybe = self.labels.is_entry(codes) | self.labels.is_fixed(codes)
        if not is_maybe.all():  # united with older ones, of channels
            return False
        made = [label_of(self.labels.find(rows.codes)) for rows in self.rows.values()]
        own = label_of(self.labels.find(codes))
        return not made or not torch.isin(own, torch.cat(made)).any()

    def is_parameter(self, tensor: Any) -> bool:
        """Whether this is a parameter of the network itself, not something computed from one."""
        is_own = id(tensor) in self._owner
        if is_own:
            self.met.add(self.name_of(tensor))
        return is_own

    def constant(self, tensor: Tensor) -> tuple[tuple[str, str], tuple[int | None, ...]] | None:
        """Find the buffer that a tensor is, or is a turned view of, and its dimensions."""
        place = self.buffers.place(tensor)
        known = self.constants.get(tensor)
        return known if place is None else (place, tuple(range(tensor.dim())))

    def channels(
        self, parameter: Tensor, dim: int, codes: Tensor | None = None, n_blocks: int = 1
    ) -> Tensor:
        """Tie the rows of a parameter to the channels that it makes or scales.

        Args:
            parameter: Parameter of the network.
            dim: Dimension of the rows.
            codes: (n,) codes of the channels; None makes new ones.
            n_blocks: Blocks of a grouped convolution.

        Returns:
            (n,) codes of the rows.
        """
        layer, tensor = self._owner[id(parameter)]
        known = self.rows.get((layer, tensor, dim))
        if codes is None:
            codes = known.codes if known else self.labels.fresh(parameter.shape[dim])
        return self.add_rows(Rows(layer, tensor, dim, zeroed(codes), True, n_blocks))

    def columns(
        self, parameter: Tensor, dim: int, codes: Tensor, n_blocks: int = 1, can_fold: bool = False
    ) -> None:
        """Tie the columns of a parameter to the channels that they read.

        Args:
            parameter: Parameter of the network.
            dim: Dimension of the columns.
            codes: (n,) codes of the channels.
            n_blocks: Blocks of a grouped convolution.
            can_fold: Whether a bias can hold what removed channels leave.
        """
        causes = self.shifts.causes_of(codes, self.here)
        can_fold = can_fold and all(cause.is_constant for cause in causes)
        if not can_fold:
            self.require_zero(codes)
        layer, tensor = self._owner[id(parameter)]
        behind = str(causes[0]) if causes and can_fold else ""
        self.add_rows(Rows(layer, tensor, dim, zeroed(codes), False, n_blocks, fold=behind))

    def add_rows(self, rows: Rows) -> Tensor:
        """Note rows of a parameter or buffer; rows that are used twice are tied."""
        key = (rows.layer, rows.tensor, rows.dim)
        known = self.rows.get(key)
        codes = self.labels.unite(known.codes, rows.codes) if known else rows.codes
        is_unit = rows.is_unit or (known is not None and known.is_unit)
        fold = rows.fold or (known.fold if known else "")
        self.rows[key] = replace(rows, codes=codes, is_unit=is_unit, fold=fold)
        return self.labels.find(codes)

    def counts(self, function: str, dim: int, codes: Tensor) -> None:
        """Note that the running layer has to count removed channels in a norm or mean.

        Args:
            function: Name of the function, as torch calls it.
            dim: Dimension of the channels, counted from the last.
            codes: (n,) codes of the channels; once removed they are zero, or what the layer
                itself made of zeros.
        """
        self.require_zero(codes, within=self.here)
        known = self.rows.get((self.running[-1], function, dim))
        if known is not None and len(known.codes) != len(codes):
            both = torch.cat([known.codes, codes])
            self.keep(both, f"{self.here} takes the {function} over several widths")
        else:
            self.add_rows(
                Rows(self.running[-1], function, dim, zeroed(codes), False, is_count=True)
            )

    def looks(self, function: str, dims: Iterable[int]) -> None:
        """Note a norm or mean over dimensions that lose nothing, also for the layers around it."""
        where = self.at_line("")
        looks = {(layer, function, dim): where for layer in self.running for dim in dims}
        self._looks = looks | self._looks

    def settle(self) -> None:
        """Decide at the end of a run what was open: entries of parameters, ambiguous counts."""
        for rows in self._elements.rows():
            self.add_rows(rows)
        for key in [key for key in self._looks if key in self.rows]:
            codes = self.labels.find(self.rows[key].codes)
            what = f"{self.named(key[0])} takes the {key[1]} of it and of what loses nothing"
            if len(codes) == 1 or compact(codes).numel() > 1:  # what is tied has its own reason
                self.labels.keep(codes, f"{what}{self._looks[key]}: it can count one width alone")

    def produces(self, weight: Tensor, dim: int, codes: Tensor) -> None:
        """Note that rows of this weight make channels."""
        self.makers.setdefault((*self._owner[id(weight)], dim), len(codes))

    def shift(self, codes: Tensor, cause: str, *, is_constant: bool = True) -> Tensor:
        """Note that these entries are not zero where their units are set to zero.

        Args:
            codes: Of the entries.
            cause: The operation and the layer that runs it, or the layer alone.
            is_constant: Whether they may be the same number for all inputs.
        """
        is_new = ~is_shifted(codes) & ~self.labels.is_fixed(codes)
        if is_new.any():
            self.shifts.note(codes[is_new], Cause(cause, self.line, is_constant))
        return torch.where(self.labels.is_fixed(codes), codes, shifted(codes))

    def require_zero(self, codes: Tensor, within: str | None = None) -> None:
        """Keep the units of shifted entries: whoever reads them would miss a constant.

        Args:
            codes: Codes of the entries.
            within: A layer whose own shifts are allowed for.
        """
        causes = self.shifts.causes_of(codes, self.here)
        if not causes or (within and all(cause.is_of(within) for cause in causes)):
            return
        reason = f"its channels are not zero behind {causes[0]} once removed"
        self.labels.keep(codes[is_shifted(codes)], reason)

    def takes_apart(self, codes: Tensor) -> None:
        """Note that the running line of code takes these channels apart."""
        self.splits.append((codes.flatten(), self.here, self.line))

    def tie_but(self, codes: Tensor, dim: int) -> Tensor:
        """Tie entries so that they differ along one dimension alone.

        Returns:
            Compact codes.
        """
        for other in varying(compact(codes)):
            if other != dim % codes.dim():
                first = codes.narrow(other, 0, 1)
                codes = self.labels.unite(codes, first).narrow(other, 0, 1)
                self.tied.append((codes.flatten(), self.at_line(f"in {self.here}")))
        return self.labels.find(codes)

    def along(self, tensor: Tensor, dim: int) -> Tensor | None:
        """Read the codes along one dimension, the same at every other place.

        Returns:
            (n,) codes, or None if the tensor is not followed.
        """
        codes = self.codes(tensor)
        if codes is None:
            return None
        if codes.numel() != codes.shape[dim]:
            codes = self.tie_but(codes, dim)
        return codes.flatten().expand(tensor.shape[dim])

    def _elements_of(self, parameter: Tensor) -> Tensor:
        own = self._owner.get(id(parameter))
        name = ".".join(part for part in own or self.buffers.place(parameter) or () if part)
        self.met.add(name)
        return self._elements.of(name, parameter, is_constant=own is None)
