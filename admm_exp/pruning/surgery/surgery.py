"""From a support to a smaller network, and the proof that nothing was lost."""

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import SurgeryError
from admm_exp.pruning.dependency.copying import copied, unwritten
from admm_exp.pruning.dependency.inputs import call
from admm_exp.pruning.dependency.outputs import (
    Difference,
    difference,
    is_measurable,
    recorded,
    same_shaped,
)
from admm_exp.pruning.dependency.places import line_of
from admm_exp.pruning.dependency.structures import leaves_in, map_tensors, tensors_in
from admm_exp.pruning.surgery.folding import columns_to_fold, fold_
from admm_exp.pruning.surgery.groups import PrunableGroup, Slice
from admm_exp.pruning.surgery.inside import Inside, noted
from admm_exp.pruning.surgery.removal import remove_channels_
from admm_exp.pruning.surgery.skipping import call_skipping

MAX_RELATIVE_DIFFERENCE = 1e-3
"""Largest difference of a right cut, relative to the spread of the outputs."""


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
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for group, kept in zip(groups, support, strict=True):
        lost: dict[int, Tensor] = {}
        for name, dim, rows in group.parts:
            if id(rows) not in lost:
                lost[id(rows)] = rows[~kept].flatten()
            parameters[name].index_fill_(dim, lost[id(rows)].to(parameters[name].device), 0.0)
    return zero_constants_(model, groups, support)


@torch.no_grad()
def zero_constants_(
    model: nn.Module, groups: Sequence[PrunableGroup], support: Sequence[Tensor]
) -> nn.Module:
    """Set the numbers of buffers that belong to removed units to zero, in place.

    No optimizer sees them: gammas and betas of frozen norms, tables of positions.

    Args:
        model: The network.
        groups: Prunable groups.
        support: (n_units,) bool per group, True = kept.

    Returns:
        The model.
    """
    for group, kept in zip(groups, support, strict=True):
        for site in group.sites:
            if site.is_constant:
                buffer = model.get_buffer(site.name)
                buffer.index_fill_(site.dim, site.lost(~kept.cpu()).to(buffer.device), 0.0)
    return model


def cut(
    model: nn.Module,
    groups: Sequence[PrunableGroup],
    support: Sequence[Tensor],
    *,
    shares_whole: bool = False,
) -> nn.Module:
    """Build the smaller network: a copy of the model without the removed channels.

    Args:
        model: The network; left as it is.
        groups: Prunable groups.
        support: (n_units,) bool per group, True = kept.
        shares_whole: Whether parameters that lose nothing may be those of the model, which spares
            copies where the smaller network is only looked at.

    Raises:
        SurgeryError: If a layer cannot be cut.
    """
    columns = columns_to_fold(groups, support)
    made: list[str] = []
    known: dict[int, nn.Parameter] = {}
    if not columns:  # what is folded is written in place
        known = {id(p): p for p in model.parameters()} if shares_whole else unwritten(model)
    contents = {id(known[id(p)]): p for p in model.parameters() if id(p) in known}
    small = copied(model, known)
    if columns:
        example = next(group.example for group in groups if group.example is not None)
        made = fold_(small, zero_(copied(model), groups, support), columns, example)
    try:
        remove_channels_(small, groups, support, made, contents)
    except Exception as error:  # whatever breaks on an unknown network
        raise SurgeryError(f"the channels cannot be removed: {_describe(error)}") from error
    if not shares_whole:
        _write_(known, contents)
    return small


@torch.no_grad()
def _write_(unwritten: dict[int, nn.Parameter], contents: Mapping[int, Tensor]) -> None:
    """Give parameters their contents, but those of which nobody holds more than the key here."""
    held = [(weakref.ref(parameter), contents[id(parameter)]) for parameter in unwritten.values()]
    unwritten.clear()
    for place, content in held:
        parameter = place()
        if parameter is not None:
            parameter.copy_(content)


def max_abs_difference(masked: nn.Module, small: nn.Module, inputs: Any) -> float:
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


def compare(
    masked: nn.Module,
    small: nn.Module,
    inputs: Any,
    tolerance: float = MAX_RELATIVE_DIFFERENCE,
    *,
    skips_zeros: bool = False,
    inside: Inside | None = None,
) -> Difference:
    """Run both networks on the same inputs, both in evaluation mode.

    Where they seem to differ they are compared in double precision: what rounding made, such as a
    detection more or less, is gone there.

    Args:
        masked: The network with zeros in place of what is removed.
        small: The network without it.
        inputs: What both accept.
        tolerance: Largest relative difference that is no reason to look closer.
        skips_zeros: Whether products of the masked network with zeros are left out, see
            `call_skipping`; where the networks seem to differ they are computed.
        inside: Where the outputs agree, what every fifth layer makes is compared by this; None to
            compare the outputs alone.

    Raises:
        SurgeryError: If the outputs are NaN, of another form, or the cut network does not run.
    """
    failure: ValueError | None = None
    try:
        run = call_skipping if skips_zeros else call
        found = _compared(masked, small, inputs, inside, run)
        if found.relative <= tolerance:
            return found
    except ValueError as error:  # outputs of another form
        failure = error
    with suppress(Exception):  # some code knows one precision alone
        networks = copied(masked).double(), copied(small).double()
        closer = _compared(*networks, map_tensors(inputs, _doubled), inside)
        if closer.relative <= tolerance:
            return closer
    if failure is None:
        return found
    raise _not_running(failure) from failure


@torch.no_grad()
def _compared(
    masked: nn.Module,
    small: nn.Module,
    inputs: Any,
    inside: Inside | None,
    run: Callable[[nn.Module, Any], Any] = call,
) -> Difference:
    modes = {m: m.training for network in (masked, small) for m in network.modules()}
    try:
        with _full_precision(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the network's own
            try:
                with noted(small, inside is not None) as made_small:
                    got = call(small.eval(), inputs)  # first, as many fail
                with noted(masked, inside is not None) as made:
                    expected = run(masked.eval(), inputs)
            except Exception as error:  # a cut network fails in any way
                raise _not_running(error) from error
            if any(bool(tensor.isnan().any()) for tensor in tensors_in(expected)):
                raise SurgeryError(
                    "the outputs of the network are NaN before anything is cut: no cut can be "
                    "compared with them"
                )
            is_seen = any(is_measurable(leaf) for leaf in leaves_in(expected))
            if not is_seen:
                return _compared_inside(masked, small, inputs)
            found = difference(expected, got)
            if inside is None or found.relative > inside.tolerance:
                return found
            return inside.difference(masked, made, made_small) or found
    finally:
        for module, mode in modes.items():
            if module.training != mode:
                module.training = mode


def _not_running(error: Exception) -> SurgeryError:
    line = line_of(error)
    return SurgeryError(
        f"the network does not run after the cut: {_describe(error)}"
        + (f" in {line}" if line else "")
    )


def _doubled(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _compared_inside(masked: nn.Module, small: nn.Module, inputs: Any) -> Difference:
    """Compare what layers that keep their sizes make, where the outputs hold no numbers."""
    with recorded(masked) as expected:
        call(masked, inputs)
    with recorded(small) as got:
        call(small, inputs)
    pairs = same_shaped(expected, got)
    if not pairs[0]:
        raise ValueError("neither its outputs nor those of its layers can be compared")
    return difference(*pairs)


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
