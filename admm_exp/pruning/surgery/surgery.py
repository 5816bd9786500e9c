"""From a support to a smaller network, and the proof that nothing was lost."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from admm_exp.errors import SurgeryError
from admm_exp.pruning.surgery.groups import PrunableGroup, Slice
from admm_exp.pruning.surgery.removal import remove_channels_

MAX_RELATIVE_DIFFERENCE = 1e-3
"""Largest difference of a right cut, relative to the spread of the outputs."""
ROUNDING = 1e-2
"""Least spread of outputs as a fraction of the largest: below it rounding is all that is seen."""


@dataclass(frozen=True)
class Difference:
    """How far the outputs of two networks are apart.

    Args:
        absolute: Largest absolute difference over all outputs.
        relative: The largest over the outputs, each as a fraction of its standard deviation.
    """

    absolute: float
    relative: float


@torch.no_grad()
def mask_(model: nn.Module, slices: Sequence[Slice], masks: Sequence[Tensor]) -> None:
    """Set the scalars of all removed units to zero, in place.

    Args:
        model: The network.
        slices: Constrained slices.
        masks: Broadcastable bool masks of the slices, True = kept.
    """
    for slice_, mask in zip(slices, masks, strict=True):
        slice_.of(model.get_parameter(slice_.parameter)).mul_(mask)


@torch.no_grad()
def zero_(
    model: nn.Module, groups: Sequence[PrunableGroup], support: Sequence[Tensor]
) -> nn.Module:
    """Set the scalars of all removed units to zero, in place, group by group.

    Args:
        model: The network.
        groups: Prunable groups.
        support: (n_units,) bool per group, True = kept.

    Returns:
        The model.
    """
    for group, kept in zip(groups, support, strict=True):
        for name, dim, rows in group.parts:
            parameter = model.get_parameter(name)
            parameter.index_fill_(dim, rows[~kept].flatten().to(parameter.device), 0.0)
    return model


def cut(model: nn.Module, groups: Sequence[PrunableGroup], support: Sequence[Tensor]) -> nn.Module:
    """Build the smaller network: a copy of the model without the removed channels.

    Args:
        model: The network; left as it is.
        groups: Prunable groups.
        support: (n_units,) bool per group, True = kept.

    Raises:
        SurgeryError: If a layer cannot be cut.
    """
    small = copy.deepcopy(model)
    try:
        remove_channels_(small, groups, support)
    except Exception as error:  # whatever breaks on an unknown network
        raise SurgeryError(f"the channels cannot be removed: {_describe(error)}") from error
    return small


def max_abs_difference(masked: nn.Module, small: nn.Module, inputs: Tensor) -> float:
    """Compare the masked and the cut network on the same inputs, both in evaluation mode.

    Returns:
        The largest absolute difference over all outputs.

    Raises:
        SurgeryError: If the networks disagree by more than 1e-3 of the spread of the outputs, the
            outputs are NaN, or the cut network does not run.
    """
    found = compare(masked, small, inputs)
    if not found.relative <= MAX_RELATIVE_DIFFERENCE:
        raise SurgeryError(
            f"the cut network differs from the masked one by {found.absolute:.2g}, "
            f"{100 * found.relative:.2g} % of the spread of the outputs and more than "
            f"{100 * MAX_RELATIVE_DIFFERENCE:g} %: a removed channel was not zero everywhere"
        )
    return found.absolute


@torch.inference_mode()
def compare(masked: nn.Module, small: nn.Module, inputs: Tensor) -> Difference:
    """Run both networks on the same inputs, both in evaluation mode.

    Raises:
        SurgeryError: If the outputs are NaN or the cut network does not run.
    """
    modes = {m: m.training for network in (masked, small) for m in network.modules()}
    try:
        with _full_precision():
            expected = masked.eval()(inputs)
            if any(bool(t.isnan().any()) for t in tree_leaves(expected)):
                raise SurgeryError(
                    "the outputs of the network are NaN before anything is cut: no cut can be "
                    "compared with them"
                )
            return _difference(expected, small.eval()(inputs))
    except SurgeryError:
        raise
    except Exception as error:  # a cut network fails in any way
        raise SurgeryError(
            f"the network does not run after the cut: {_describe(error)}; "
            f"keep the layer named there out of the pruning"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def _difference(expected: Any, got: Any) -> Difference:
    if isinstance(expected, Tensor):
        if expected.shape != got.shape:
            raise ValueError(f"outputs of shape {tuple(got.shape)}, not {tuple(expected.shape)}")
        return _of_tensors(expected, got)
    if isinstance(expected, Mapping):
        return _difference(list(expected.values()), list(got.values()))
    parts = [_difference(*pair) for pair in zip(expected, got, strict=True)]
    return Difference(max(p.absolute for p in parts), max(p.relative for p in parts))


def _of_tensors(expected: Tensor, got: Tensor) -> Difference:
    """Compare entries; infinite ones must be the same."""
    apart = torch.where(expected == got, 0.0, (expected - got).abs()).nan_to_num_(nan=math.inf)
    finite = expected[expected.isfinite()]
    absolute = float(apart.max())
    if not absolute or not len(finite):
        return Difference(absolute, absolute)
    floor = ROUNDING * float(finite.abs().max())
    return Difference(absolute, absolute / max(float(finite.std(correction=0)), floor))


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep TF32 out: another channel count may take another kernel."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
