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


def stratified_part(labels: Tensor, n: int | None, seed: int) -> Tensor:
    """Choose n samples with all classes in their proportions, drawn by `seed` alone.

    A smaller part of the same seed is a subset of a larger one, up to the rounding of the classes'
    shares.

    Args:
        labels: int64 (N,).
        n: Number of samples; None takes all.
        seed: Of the draw.

    Returns:
        Indices, int64 (n,), ascending.

    Raises:
        DataError: If n is above N or leaves a class with fewer than 2 samples.
    """
    if n is None:
        return torch.arange(len(labels))
    classes, sizes = labels.unique(return_counts=True)
    if not 2 * len(classes) <= n <= len(labels):
        raise DataError(
            f"dataset.train_images must be in [{2 * len(classes)}, {len(labels)}], two a class at "
            f"least, got {n}"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = [
        (labels == label).nonzero().flatten()[torch.randperm(size, generator=generator)[:share]]
        for label, size, share in zip(
            classes.tolist(), sizes.tolist(), _shares(sizes.tolist(), n), strict=True
        )
    ]
    return torch.cat(chosen).sort().values


def _shares(sizes: list[int], n: int) -> list[int]:
    """Share n out in proportion to sizes, at least 2 each, by the largest remainders."""
    exact = [min(size, max(2.0, n * size / sum(sizes))) for size in sizes]
    shares = [int(share) for share in exact]
    while sum(shares) != n:
        step = 1 if sum(shares) < n else -1
        able = [
            i for i, share in enumerate(shares) if (share < sizes[i] if step > 0 else share > 2)
        ]
        shares[max(able, key=lambda i: step * (exact[i] - shares[i]))] += step
    return shares
