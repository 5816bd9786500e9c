"""Rows of tensors that belong to channels, while a network runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from admm_exp.pruning.dependency.labels import Labels, label_of
from admm_exp.pruning.dependency.traced import NOWHERE, Site

Key = tuple[str, str, int]
"""Layer, tensor and dimension."""


@dataclass(frozen=True)
class Rows:
    """The rows of one tensor of a layer along one dimension, with the unit that owns each.

    Args:
        layer: Name of the layer.
        tensor: Name of its parameter or buffer.
        dim: Dimension of the rows.
        codes: (n,) code of every row.
        is_unit: Whether the rows belong to the units, and not only read their channels.
        n_blocks: Blocks of a grouped convolution; its columns are counted over all of them.
        is_count: Whether these are no rows but what a norm or mean of that name counts.
        is_constant: Whether the rows are numbers of a buffer that are zero where units are.
        fold: Behind what the channels are constants, once removed, that a bias can hold; empty
            where they are zero.
        is_size: Whether these are no rows but what an attribute of that name counts.
    """

    layer: str
    tensor: str
    dim: int
    codes: Tensor
    is_unit: bool
    n_blocks: int = 1
    is_count: bool = False
    is_size: bool = False
    is_constant: bool = False
    fold: str = ""

    @property
    def name(self) -> str:
        """Name of the tensor in the network."""
        return f"{self.layer}.{self.tensor}" if self.layer else self.tensor

    def site(self, own: Tensor, unit_of: Tensor) -> Site:
        """Describe those of one group.

        Args:
            own: (m,) which rows, ascending.
            unit_of: (m,) the unit of each of them.
        """
        return Site(
            layer=self.layer,
            tensor=self.tensor,
            dim=self.dim,
            is_unit=self.is_unit,
            n_rows=len(self.codes),
            rows=own,
            unit_of=unit_of,
            n_blocks=self.n_blocks,
            is_count=self.is_count,
            is_size=self.is_size,
            is_constant=self.is_constant,
            fold=self.fold,
        )


def roots_of(labels: Labels, rows: Mapping[Key, Rows]) -> dict[Key, Tensor]:
    """Find the label that stands for every row; tensors with the same rows share one.

    Layers have a handful of tensors with the same rows each: what is found out of one is of all.
    """
    if not rows:
        return {}
    found = label_of(labels.find(torch.cat([own.codes for own in rows.values()])))
    parts = found.split([len(own.codes) for own in rows.values()])
    shared: dict[bytes, Tensor] = {}
    return {
        key: shared.setdefault(part.numpy().tobytes(), part)
        for key, part in zip(rows, parts, strict=True)
    }


def by_group(groups: Tensor) -> Iterator[tuple[int, Tensor]]:
    """List the groups that the rows of a tensor belong to, each with its rows in order.

    Args:
        groups: (n,) the group of every row, -1 for none.
    """
    order = groups.argsort(stable=True)
    values, counts = groups[order].unique_consecutive(return_counts=True)
    for value, rows in zip(values.tolist(), order.split(counts.tolist()), strict=True):
        if value != NOWHERE:
            yield value, rows
