"""Where attributes count channels: reshapes, splits, slices and constants of their size."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import zeroed
from admm_exp.pruning.dependency.rows import Rows
from admm_exp.pruning.dependency.sizes import Size
from admm_exp.pruning.dependency.structures import is_zero

Tensors = Sequence[Tensor]


def run_sized(flow: Flow, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run a function and note which attributes among its arguments count which channels.

    Args:
        flow: Where everything is noted.
        func: Any function of torch.
        args: Its arguments.
        kwargs: Likewise.

    Returns:
        Its result.
    """
    rule = RULES.get(func)
    if rule is None or not any(_sizes_in([args, kwargs])):
        return func(*args, **kwargs)
    sizes = _shape(func, args, kwargs)
    flow.sizes.positions = tuple(i for i, size in enumerate(sizes) if isinstance(size, Size))
    try:
        outputs = func(*args, **kwargs)
    finally:
        flow.sizes.positions = ()
    with torch._C._DisableTorchDispatch():  # arithmetic of labels is not the network's
        rule(flow, args, kwargs, outputs, sizes)
    return outputs


def count_by(flow: Flow, size: Any, codes: Tensor | None) -> None:
    """Note that an attribute counts these channels.

    Args:
        flow: Where it is noted.
        size: An attribute, or any other number, which is not noted.
        codes: (n,) codes of the channels; None if they are not followed.
    """
    if isinstance(size, Size) and codes is not None and len(codes) == abs(size):
        counted = _divided(flow.labels.find(codes), size.factor)
        if counted is not None:
            rows = Rows(size.layer, size.name, 0, zeroed(counted), is_unit=False, is_size=True)
            flow.add_rows(rows)


def made_by_size(flow: Flow, tensor: Tensor, codes: Tensor, dim: int = -1) -> None:
    """Note that a dimension of a constant has to count these channels, if it can."""
    sizes = flow.sizes.made.get(tensor) or {}
    count_by(flow, sizes.get(dim % tensor.dim()), codes)


def starts_from(flow: Flow, state: Tensor, units: Tensor) -> None:
    """Tie the state that a recurrent layer starts from to its units; without them it must be zero.

    Args:
        flow: Of the network.
        state: (.., n_units), what the layer was given.
        units: (n_units,), its codes.
    """
    known = flow.along(state, -1)
    if known is not None:
        flow.require_zero(flow.labels.unite(known, units))
    elif bool(state.any()):
        flow.keep(units, f"{flow.here} starts from a state that is not zero")
    else:
        made_by_size(flow, state, units)


def _divided(codes: Tensor, factor: int) -> Tensor | None:
    """Take one of the codes of every channel that comes `factor` times, or None."""
    if factor == 1:
        return codes
    in_a_row, in_turn = codes.view(-1, factor), codes.view(factor, -1)
    if bool((in_turn == in_turn[:1]).all()):
        return in_turn[0]
    return in_a_row[:, 0] if bool((in_a_row == in_a_row[:, :1]).all()) else None


def _along(flow: Flow, tensor: Tensor, dim: int) -> Tensor | None:
    codes = flow.codes(tensor)
    if codes is None or codes.shape[dim] == 1:
        return None
    return flow.tie_but(codes, dim).flatten()


def _reshaped(flow: Flow, args: Any, kwargs: Any, outputs: Any, sizes: Sequence[Any]) -> None:
    if flow.codes(outputs) is None:
        _made(flow, args, kwargs, outputs, sizes)
    elif len(sizes) == outputs.dim():
        for dim, size in enumerate(sizes):
            count_by(flow, size, _along(flow, outputs, dim))


def _split(flow: Flow, args: Any, kwargs: Any, outputs: Any, sizes: Sequence[Any]) -> None:
    given = args[1] if len(args) > 1 else next(iter(kwargs.values()))
    dim = args[2] if len(args) > 2 else kwargs.get("dim", 0)
    several = given if isinstance(given, list | tuple) else [given] * len(outputs)
    for size, part in zip(several, outputs, strict=True):
        count_by(flow, size, _along(flow, part, dim))


def _narrowed(flow: Flow, args: Any, kwargs: Any, outputs: Any, sizes: Sequence[Any]) -> None:
    names = ("input", "dim", "start", "length")
    given = dict(zip(names, args, strict=False)) | kwargs
    _sliced(flow, given["input"], given["dim"], given["start"], None)
    count_by(flow, given["length"], _along(flow, outputs, given["dim"]))


def _indexed(flow: Flow, args: Any, kwargs: Any, outputs: Any, sizes: Sequence[Any]) -> None:
    tensor, index = args[0], args[1] if isinstance(args[1], tuple) else (args[1],)
    if any(isinstance(item, Tensor | list) for item in index):
        return
    used = sum(item is not None and item is not Ellipsis for item in index)
    dim = 0
    for item in index:
        if item is Ellipsis:
            dim += tensor.dim() - used
        elif item is not None:
            if isinstance(item, slice):
                _sliced(flow, tensor, dim, item.start, item.stop)
            dim += 1


def _sliced(flow: Flow, tensor: Tensor, dim: int, start: Any, stop: Any) -> None:
    """Bounds of a slice count the channels in front of them, negative ones those behind."""
    codes = _along(flow, tensor, dim)
    if codes is not None:
        for bound in (start, stop):
            if isinstance(bound, Size):
                count_by(flow, bound, codes[:bound] if bound > 0 else codes[bound:])


def _made(flow: Flow, args: Any, kwargs: Any, outputs: Any, sizes: Sequence[Any]) -> None:
    flow.sizes.made[outputs] = dict(enumerate(sizes))
    dim = 1 if outputs.dim() > 3 else outputs.dim() - 1  # where channels usually are
    is_sized = outputs.dim() > 1 and dim < len(sizes) and isinstance(sizes[dim], Size)
    if is_sized and is_zero(outputs):
        shape = [1] * outputs.dim()
        shape[dim] = -1  # zeros, which may be the state of what makes as many channels
        codes = flow.labels.fresh(outputs.shape[dim])
        count_by(flow, sizes[dim], codes)
        flow.mark(outputs, codes.view(shape))


def _shape(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
    """List the sizes that a function is given, by dimension of what it makes."""
    if RULES[func] not in (_reshaped, _made):
        return ()
    named = [kwargs[key] for key in ("shape", "size", "sizes") if key in kwargs]
    rest = args if func in FACTORIES else args[1:]
    if func in (Tensor.unflatten, torch.unflatten):
        dim = rest[0] if rest else kwargs["dim"]
        dims = args[0].dim() if args else 0
        named = [*[None] * (dim % dims), *(rest[1] if len(rest) > 1 else kwargs["sizes"])]
        return [*named, *[None] * (dims - 1 - dim % dims)]
    given = rest[0] if rest and isinstance(rest[0], list | tuple) else rest
    return tuple(named[0]) if named else tuple(given)


def _sizes_in(item: Any) -> Iterable[Size]:
    if isinstance(item, Size):
        yield item
    elif isinstance(item, slice):
        yield from _sizes_in([item.start, item.stop])
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _sizes_in(part)
    elif isinstance(item, dict):
        yield from _sizes_in(list(item.values()))


FACTORIES = (torch.zeros, torch.ones, torch.empty, torch.rand, torch.randn)
RULES: dict[Any, Callable[..., None]] = {
    **dict.fromkeys((Tensor.view, Tensor.reshape, torch.reshape, Tensor.expand), _reshaped),
    **dict.fromkeys((Tensor.unflatten, torch.unflatten), _reshaped),
    **dict.fromkeys((Tensor.split, torch.split, Tensor.split_with_sizes), _split),
    **dict.fromkeys((torch.split_with_sizes,), _split),
    **dict.fromkeys((Tensor.narrow, torch.narrow), _narrowed),
    Tensor.__getitem__: _indexed,
    **dict.fromkeys((*FACTORIES, Tensor.new_zeros, Tensor.new_ones), _made),
}
"""Function -> what it says about attributes among its arguments."""
