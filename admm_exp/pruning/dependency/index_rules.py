"""How channels go through gathering, scattering, and distances between rows."""

from typing import Any

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import compact
from admm_exp.pruning.dependency.structures import is_zero, tensors_in


def added(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Add rows to others at places that an index says, as graph networks do with messages."""
    tensor, dim, _, source = args[:4]
    pair = flow.codes(tensor), flow.codes(source)
    known = [codes for codes in pair if codes is not None]
    if any(codes.shape[dim] > 1 for codes in known):
        flow.keep_all([tensor, source], f"{flow.here} adds its channels by position")
        return None
    if len(known) == 2:
        return compact(flow.labels.unite(*known))
    other = tensor if pair[0] is None else source
    if is_zero(other):
        return known[0]
    return flow.shift(known[0], f"what is added in {flow.here}")


def gathered(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Choose entries along one dimension, for every channel by itself."""
    tensor, dim = args[:2]
    codes = flow.codes(tensor)
    if codes is None:
        flow.keep_all(tensors_in(args), f"{flow.here} gathers by it")
        return None
    is_whole = all(n in (1, size) for n, size in zip(codes.shape, outputs.shape, strict=True))
    if codes.shape[dim] > 1 or not is_whole:
        flow.keep(codes, f"{flow.here} picks its channels by position")
        return None
    return codes


def distances(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Measure distances between rows of two matrices: channels that are zero in both add none."""
    first, second = (flow.along(tensor, -1) for tensor in args[:2])
    if first is None or second is None:
        flow.keep_all(args[:2], f"{flow.here} measures its distance from a constant")
    else:
        flow.require_zero(flow.labels.unite(first, second))


def chosen(flow: Flow, func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Say where the largest or smallest entry is: a position, which counts channels if across."""
    codes = flow.codes(args[0])
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    if codes is not None and (dim is None or codes.shape[dim] > 1):
        flow.keep(codes, f"{flow.here} says which of its channels is first")


INDEXED: dict[str, Any] = {
    **dict.fromkeys(("index_add", "index_add_", "scatter_add", "scatter_add_"), added),
    "gather": gathered,
    **dict.fromkeys(("_cdist_forward", "_euclidean_dist"), distances),
    **dict.fromkeys(("argmax", "argmin"), chosen),
}
"""Operation -> how channels go through it."""
