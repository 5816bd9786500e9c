"""Split samples in two so that every class is on both sides."""

import torch
from torch import Tensor

from admm_exp.errors import DataError


def stratified_split(
    labels: Tensor, fraction: float, seed: int, key: str = "fraction"
) -> tuple[Tensor, Tensor]:
    """Hold out about `fraction` of every class, drawn by `seed` alone.

    A class of n samples gives round(fraction * n), at least 1 and at most n - 1.

    Args:
        labels: (N,) int64.
        fraction: In (0, 1).
        key: What the user calls the fraction, for the message.

    Returns:
        Indices (kept, held out), int64, disjoint, ascending, together 0..N-1.

    Raises:
        DataError: If fraction is outside (0, 1), or a class has fewer than 2 samples.
    """
    if not 0 < fraction < 1:
        raise DataError(f"{key} must be in (0, 1), got {fraction}")
    generator = torch.Generator().manual_seed(seed)
    is_held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        n = len(members)
        if n < 2:
            raise DataError(
                f"class {label} must have at least 2 samples to be split by {key}, got {n}"
            )
        n_held_out = min(max(round(fraction * n), 1), n - 1)
        is_held_out[members[torch.randperm(n, generator=generator)[:n_held_out]]] = True
    return (~is_held_out).nonzero().flatten(), is_held_out.nonzero().flatten()
