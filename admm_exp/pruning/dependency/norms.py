"""Norms and means across channels that remember how many channels they counted.

A removed channel was zero in front of the norm, and gamma and beta made it zero behind: only the
statistics remember it. With n channels before and S, Q the sums of x and x^2 over those that are
left,

    mean = S / n        variance = Q / n - mean^2

are the statistics of the network that still holds the zeros.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from admm_exp.pruning.dependency.remembered import (
    KEY,
    STANDARDISES,
    is_of_rows,
    standardised_rows,
)
from admm_exp.pruning.dependency.remembered import (
    MOMENTS as REMOVED,
)

NORMS = ("layer_norm", "rms_norm", "group_norm")
MOMENTS = ("mean", "var", "std", "var_mean", "std_mean")
POINTWISE = {"sub", "rsub", "add", "radd", "mul", "rmul", "truediv", "div", "pow", "square", "abs"}
COUNTED = (*NORMS, *MOMENTS, STANDARDISES)
"""Functions whose result depends on the number of zeros among what they look at."""


def count_channels_(module: nn.Module, counts: Mapping[str, int]) -> None:
    """Let the norms and means that a module computes itself count channels it no longer has.

    Args:
        module: Changed in place: it gets a class of its own, under which its forward pass runs.
        counts: Function and dimension, as `layer_norm -1` -> channels that are counted.
    """
    cls = type(module)
    if not isinstance(module, CountsChannels):
        module.__class__ = _counting_class(cls)
    module.counted_channels = {**getattr(module, "counted_channels", {}), **counts}  # type: ignore
    if KEY in counts and not hasattr(module, REMOVED):
        module.register_buffer(REMOVED, module.weight.new_zeros(2, len(module.weight)))  # type: ignore


def counted_channels(network: nn.Module) -> dict[str, dict[str, int]]:
    """List by layer what `count_channels_` told the modules of a network."""
    return {
        name: dict(module.counted_channels)
        for name, module in network.named_modules()
        if isinstance(module, CountsChannels)
    }


class CountsChannels:
    """Mixin of modules whose norms and means count channels that are no longer there.

    Attributes:
        counted_channels: Function and dimension, as `layer_norm -1` -> channels that are counted.
    """

    counted_channels: dict[str, int]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own forward pass with norms that count."""
        counting = _Counting(self.counted_channels, getattr(self, REMOVED, None))
        with counting if _counts.get() else nullcontext():
            return super().forward(*args, **kwargs)  # type: ignore[misc]

    def extra_repr(self) -> str:
        """Say what is counted, behind what the module says of itself."""
        units = {KEY: "entries of a row"}
        told = self.counted_channels.items()
        counts = ", ".join(f"{key}: {n} {units.get(key, 'channels')}" for key, n in told)
        own: str = super().extra_repr()  # type: ignore[misc]
        return f"{own}; counts {counts}" if own else f"counts {counts}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle as the class below, which modules name and this one does not."""
        return _rebuilt, (type(self).__mro__[2],), self.__dict__


_counts: ContextVar[bool] = ContextVar("counts", default=True)


@contextmanager
def as_written() -> Iterator[None]:
    """Run modules that count as they were written, to follow them; the numbers mean nothing."""
    before = _counts.set(False)
    try:
        yield
    finally:
        _counts.reset(before)


def _counting_class(cls: type) -> type:
    return type(f"Counting{cls.__name__}", (CountsChannels, cls), {"__module__": cls.__module__})


def _rebuilt(cls: type) -> Any:
    return object.__new__(_counting_class(cls))


class _Counting(TorchFunctionMode):
    """Counts in the functions that are asked for it.

    Where moments are taken one after the other, as in a norm that is written out, entries of a
    removed channel do not stay zero in between (0 - mean): what they would be is carried along.
    """

    def __init__(self, counts: Mapping[str, int], moments: Tensor | None = None) -> None:
        super().__init__()
        self.moments, self.n_entries = moments, counts.get(KEY, 0)
        self.counts = {tuple(key.split()): n for key, n in counts.items()}
        self.names = {name for name, _ in self.counts}
        dims = {int(dim) for name, dim in self.counts if name in MOMENTS}
        self.dim = dims.pop() if len(dims) == 1 else None
        self.removed: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name == STANDARDISES and self.moments is not None and is_of_rows(args, kwargs):
            return standardised_rows(self.moments, self.n_entries, *args, **kwargs)
        if name in self.names and name != STANDARDISES:
            dims = normalised_dims(name, args, kwargs)
            for dim in dims:
                if (n := self.counts.get((name, str(dim)))) is not None:
                    counted = _Counted(args[0], dims, dim, n, self._removed(args[0]))
                    return self._noted(_FUNCTIONS[name](counted, *args[1:], **kwargs))
        outputs = func(*args, **kwargs)
        if self.removed and name.strip("_") in POINTWISE and any(map(self._is_known, args)):
            self.removed[id(outputs)] = outputs, func(*map(self._at_removed, args), **kwargs)
        return outputs

    def _noted(self, outputs: Any) -> Any:
        for output in outputs if isinstance(outputs, tuple) else [outputs]:
            if self.dim is not None and output.dim() >= -self.dim and output.shape[self.dim] == 1:
                self.removed[id(output)] = output, output
        return outputs

    def _is_known(self, item: Any) -> bool:
        return isinstance(item, Tensor) and id(item) in self.removed

    def _removed(self, tensor: Tensor) -> Tensor | None:
        return self.removed[id(tensor)][1] if self._is_known(tensor) else None

    def _at_removed(self, item: Any) -> Any:
        """Say what an operand is at a removed channel: known, zero, or the same everywhere."""
        if self._is_known(item):
            return self._removed(item)
        if self.dim is None or not isinstance(item, Tensor) or item.dim() < -self.dim:
            return item
        return torch.zeros_like(item.narrow(self.dim, 0, 1)) if item.shape[self.dim] > 1 else item


def normalised_dims(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[int]:
    """List the dimensions that one of these functions looks across, counted from the last."""
    n_dims = args[0].dim()
    if name in ("layer_norm", "rms_norm"):
        shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
        return list(range(-len(shape), 0))
    if name == "group_norm":
        return list(range(1 - n_dims, 0))
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    if dims is None or isinstance(dims, bool) or dims in ((), []):
        return list(range(-n_dims, 0))
    return [d % n_dims - n_dims for d in ([dims] if isinstance(dims, int) else dims)]


class _Counted:
    """Moments of a tensor over dimensions of which one has lost channels."""

    def __init__(
        self,
        tensor: Tensor,
        dims: Sequence[int],
        dim: int,
        n: int,
        removed: Tensor | None = None,
    ) -> None:
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        self.tensor, self.given = (tensor.float() if half else tensor), tensor
        self.dims, self.dim, self.n = tuple(dims), dim, n
        self.removed = torch.zeros((), device=tensor.device) if removed is None else removed

    def mean(self, keepdim: bool) -> Tensor:
        return self._sum(self.tensor, self.removed, keepdim) / self.count()

    def var(self, keepdim: bool, correction: float) -> Tensor:
        mean = self.mean(True)
        squares = (self.tensor - mean).square(), (self.removed - mean).square()
        return self._sum(*squares, keepdim) / (self.count() - correction)

    def _sum(self, tensor: Tensor, removed: Tensor, keepdim: bool) -> Tensor:
        """Sum what is left, and as often as a channel is gone what such a channel would hold."""
        shape = list(tensor.shape)
        n_removed, shape[self.dim] = self.n - shape[self.dim], 1
        rest = removed.expand(shape).sum(self.dims, keepdim=keepdim)
        return tensor.sum(self.dims, keepdim=keepdim) + n_removed * rest

    def count(self) -> Any:
        count: Any = self.n
        for dim in self.dims:
            count = count if dim == self.dim else count * self.tensor.shape[dim]
        return count


def _layer_norm(
    x: _Counted,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    outputs = (x.tensor - x.mean(True)) * (x.var(True, 0.0) + eps).rsqrt()
    return _scaled(outputs, weight, bias).to(x.given.dtype)


def _rms_norm(
    x: _Counted, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    eps = torch.finfo(x.given.dtype).eps if eps is None else eps
    squares = x.tensor.square().sum(x.dims, keepdim=True) / x.count()
    return _scaled(x.tensor * (squares + eps).rsqrt(), weight, None).to(x.given.dtype)


def _group_norm(
    x: _Counted,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    grouped = x.tensor.unflatten(1, (num_groups, -1))
    dims = range(2 - grouped.dim(), 0)
    own = _Counted(grouped, dims, 2 - grouped.dim(), x.n // num_groups)
    outputs = (grouped - own.mean(True)) * (own.var(True, 0.0) + eps).rsqrt()
    shape = (-1, *[1] * (x.tensor.dim() - 2))
    affine = [None if part is None else part.view(shape) for part in (weight, bias)]
    return _scaled(outputs.flatten(1, 2), *affine).to(x.given.dtype)


def _scaled(outputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    outputs = outputs if weight is None else outputs * weight
    return outputs if bias is None else outputs + bias


def _mean(x: _Counted, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return x.mean(keepdim).to(dtype or x.given.dtype)


def _var(
    x: _Counted,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    return x.var(keepdim, float(unbiased) if correction is None else correction).to(x.given.dtype)


def _std(x: _Counted, *args: Any, **kwargs: Any) -> Tensor:
    return _var(x, *args, **kwargs).sqrt()


def _var_mean(x: _Counted, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    keepdim = bool(kwargs.get("keepdim", args[2] if len(args) > 2 else False))
    return _var(x, *args, **kwargs), x.mean(keepdim).to(x.given.dtype)


def _std_mean(x: _Counted, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    var, mean = _var_mean(x, *args, **kwargs)
    return var.sqrt(), mean


_FUNCTIONS: dict[str, Any] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "mean": _mean,
    "var": _var,
    "std": _std,
    "var_mean": _var_mean,
    "std_mean": _std_mean,
}
