"""Batch norm over a batch that several processes share."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

from admm_exp.training.distribution import gathered, rank, total, world_size

LOW_PRECISION = (torch.float16, torch.bfloat16)


def shared_batch_norm() -> AbstractContextManager[object]:
    """Make every batch norm use the statistics of all processes' samples.

    So a network computes what it would in one process that has the whole batch, whatever its
    layers are called. All processes must have equally many samples.
    """
    return _Mode() if world_size() > 1 else nullcontext()


class _Mode(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(  # noqa: PLR0917
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise by the mean and variance of all processes' samples.

    With m_p and v_p of process p, the mean is that of the m_p and the variance that of
    v_p + (m_p - mean)^2, which is free of cancellation.
    """
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    values = input.float() if input.dtype in LOW_PRECISION else input
    dims = [0, *range(2, values.dim())]
    own_variance, own_mean = torch.var_mean(values, dims, correction=0)
    means, variances = _Gathered.apply(torch.stack([own_mean, own_variance])).unbind(1)  # (P, C)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    if running_mean is not None and running_var is not None:
        n = world_size() * values.numel() // len(mean)
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * (n / (n - 1)), momentum)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = (1, -1, *[1] * (values.dim() - 2))
    return (values * scale.view(shape) + shift.view(shape)).to(input.dtype)


class _Gathered(torch.autograd.Function):
    """Stack the tensors of all processes; the gradient of each goes back to its own."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        return gathered(values)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return total(gradient)[rank()]
