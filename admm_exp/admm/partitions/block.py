"""Blocks of the (out, in) matrix: block-sparse linear layers, block-punched convolutions."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from admm_exp.admm.partition import Partition


@dataclass(frozen=True)
class Block(Partition):
    """A unit is a block of neighbouring outputs and inputs, at one place of the kernel.

    Args:
        rows: Outputs in a block, at least 1.
        columns: Inputs in a block, at least 1.

    Raises:
        ValueError: If rows or columns is below 1.

    References:
        Ma et al. 2020, arXiv 2001.07710; Cai et al. 2021, arXiv 2009.05697 (block-punched).
    """

    rows: int
    columns: int

    name = "block"
    unit = "blocks"

    def __post_init__(self) -> None:
        for key in ("rows", "columns"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")

    def obstacle(self, shape: Sequence[int]) -> str | None:
        """Refuse a matrix that does not divide into blocks."""
        if shape[0] % self.rows or shape[1] % self.columns:
            block = f"{self.rows} x {self.columns}"
            return f"its {shape[0]} x {shape[1]} matrix does not divide into blocks of {block}"
        return None

    def units(self, weight: Tensor) -> Tensor:
        """Lay a weight out as (block rows * block columns * kernel places, rows * columns)."""
        n_out, n_in = weight.shape[0] // self.rows, weight.shape[1] // self.columns
        places = weight.reshape(n_out, self.rows, n_in, self.columns, -1)
        return places.permute(0, 2, 4, 1, 3).reshape(-1, self.rows * self.columns)

    def spread(self, kept: Tensor, shape: Sequence[int]) -> Tensor:
        """Repeat every kept block over its outputs and inputs."""
        n_out, n_in, *kernel = shape
        blocks = kept.view(n_out // self.rows, n_in // self.columns, *kernel)
        return blocks.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
