"""Parameters whose entries are used one by one: scales, tables of positions."""

from collections.abc import Container

from torch import Tensor

from admm_exp.pruning.dependency.labels import Labels, compact, varying

MAX_ELEMENTS = 1_000_000
"""Largest parameter every entry of which has a label of its own."""


def entries_of(parameter: Tensor, labels: Labels, widths: Container[int]) -> Tensor:
    """Give every entry a label; the entries of a large table differ along one dimension alone.

    Args:
        parameter: Parameter or buffer.
        labels: Where the new ones are made.
        widths: Numbers of channels in sight of the layer that uses it; a large table has one of
            them along that dimension, or its last.

    Returns:
        Codes, broadcastable to its shape and with as many dimensions.
    """
    if parameter.numel() <= MAX_ELEMENTS:
        return labels.fresh(parameter.numel(), is_entry=True).view(parameter.shape)
    dims = [dim for dim in reversed(range(parameter.dim())) if parameter.shape[dim] > 1]
    own = next((dim for dim in dims if parameter.shape[dim] in widths), dims[0])
    shape = [-1 if dim == own else 1 for dim in range(parameter.dim())]
    return labels.fresh(parameter.shape[own], is_entry=True).view(shape)


def rows_tied(codes: Tensor, dims: Container[int], labels: Labels) -> Tensor:
    """Tie the rows of a table that are chosen by their position, as those of an embedding are.

    Args:
        codes: Of the table, compact.
        dims: Dimensions along which rows are chosen.
        labels: Where they are tied.

    Returns:
        Codes that differ along the other dimensions alone.
    """
    for dim in varying(codes):
        if dim in dims:
            codes = labels.unite(codes, codes.narrow(dim, 0, 1))
    return compact(codes)
