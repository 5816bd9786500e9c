"""Work on lists of tensors in pieces that the cache of a CPU holds."""

from collections.abc import Iterator, Sequence

from torch import Tensor

PIECE = 2**19
"""Scalars that a CPU works on at once: 2 MB of float32, which its last-level cache keeps."""


def pieces_of(*lists: Sequence[Tensor]) -> Iterator[list[list[Tensor]]]:
    """Cut lists of tensors of equal shapes into lists of views, each of at most PIECE scalars.

    Where a single row is longer, it is a piece. A GPU gets all at once: it runs one kernel a list.
    """
    if lists[0] and not lists[0][0].is_cpu:
        yield [list(tensors) for tensors in lists]
        return
    start = n = 0
    for position, tensor in enumerate(lists[0]):
        size = tensor.numel()
        if n + size > PIECE and position > start:
            yield [list(tensors[start:position]) for tensors in lists]
            start, n = position, 0
        n += size
        if size > PIECE:
            n_rows = max(1, PIECE * len(tensor) // size)
            for views in zip(*(tensors[position].split(n_rows) for tensors in lists), strict=True):
                yield [[view] for view in views]
            start, n = position + 1, 0
    if start < len(lists[0]):
        yield [list(tensors[start:]) for tensors in lists]


def row_pieces(dim: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors of equal shapes along a dimension, into views of at most PIECE scalars.

    Where a single row is longer, it is a piece. A GPU gets all rows at once.
    """
    first = tensors[0]
    if not first.is_cpu or first.numel() <= PIECE:
        yield tensors
        return
    n_rows = max(1, PIECE * first.shape[dim] // first.numel())
    yield from zip(*(tensor.split(n_rows, dim) for tensor in tensors), strict=True)
