"""At most n weights of every m neighbours along the inputs, such as 2 of 4."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from admm_exp.admm.partition import Partition


@dataclass(frozen=True)
class NOfM(Partition):
    """Every weight is a unit, and all blocks of m consecutive inputs keep the same number.

    The sparsity gives n = m - floor(sparsity * m), at least 1: sparsity 0.5 of m = 4 is 2 of 4, the
    pattern that sparse tensor cores multiply. The inputs of a convolution are its channels, at one
    output and one place of the kernel.

    Args:
        m: Inputs in a block, at least 2.

    Raises:
        ValueError: If m is below 2.

    References:
        Mishra et al. 2021, arXiv 2104.08378.
    """

    m: int

    name = "n_of_m"
    unit = "weights"

    def __post_init__(self) -> None:
        if self.m < 2:
            raise ValueError(f"m must be at least 2, got {self.m}")

    def obstacle(self, shape: Sequence[int]) -> str | None:
        """Refuse inputs that do not divide into blocks of m."""
        return f"its {shape[1]} inputs are no multiple of {self.m}" if shape[1] % self.m else None

    def count_blocks(self, shape: Sequence[int]) -> int:
        """Count the runs of m inputs."""
        return prod(shape) // self.m

    def units(self, weight: Tensor) -> Tensor:
        """Lay a weight out as (numel, 1), inputs next to each other."""
        return weight.movedim(1, -1).reshape(-1, 1)

    def spread(self, kept: Tensor, shape: Sequence[int]) -> Tensor:
        """Shape the kept weights like the weight."""
        n_out, n_in, *kernel = shape
        return kept.view(n_out, *kernel, n_in).movedim(-1, 1)
