"""The small network as a program of torch.export."""

import copy
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.inputs import accepted_form, arguments

if TYPE_CHECKING:
    from torch.export import ExportedProgram

PROGRAMS = 8
"""Programs of one process that are kept: many jobs of a sweep cut the same architecture."""
TOLERANCE = 1e-4
"""How far a program may be from the network, relative to the largest output."""

_programs: dict[tuple[object, ...], "ExportedProgram"] = {}


def exported(small: nn.Module, builder: Mapping[str, Any], example: Any) -> bytes:
    """Write a network as a program in evaluation mode, for one tensor for batches of any size.

    Following a network takes five times as long as writing it down. Where this process has followed
    one of the same shape, its program gets the new weights, and is taken if it then computes what
    the network does.

    Args:
        small: The network, on the CPU; left as it is.
        builder: What built the network that it was cut from.
        example: Inputs that it accepts.

    Raises:
        Exception: What torch.export stumbles over.
    """
    network = copy.deepcopy(small).eval().to(memory_format=torch.contiguous_format)
    if isinstance(example, Tensor):
        program = _followed(network, builder, example)
    else:  # nobody knows which of the sizes may change
        args, kwargs = arguments(example, accepted_form(network, example))
        program = torch.export.export(network, args, kwargs)
    program._example_inputs = None  # would be pickled into the archive
    archive = BytesIO()
    torch.export.save(program, archive)
    return archive.getvalue()


def _followed(network: nn.Module, builder: Mapping[str, Any], example: Tensor) -> "ExportedProgram":
    batch = example[:1].expand(2, *example.shape[1:]).contiguous()
    key = _shape_of(network, builder, batch)
    program = _with_weights(_programs.get(key), network, batch)
    if program is None:
        dynamic = {0: torch.export.Dim.AUTO}
        program = torch.export.export(network, (batch,), dynamic_shapes=(dynamic,))
        _keep(key, program)
    return program


def _shape_of(network: nn.Module, builder: Mapping[str, Any], batch: Tensor) -> tuple[object, ...]:
    modules = tuple((name, type(module)) for name, module in network.named_modules())
    tensors = tuple((n, tuple(t.shape), t.dtype) for n, t in network.state_dict().items())
    return (repr(dict(builder)), tuple(batch.shape), batch.dtype, modules, tensors)


def _keep(key: tuple[object, ...], program: "ExportedProgram") -> None:
    if program.constants:  # tensors outside the weights, which another network may have otherwise
        return
    while len(_programs) >= PROGRAMS:
        del _programs[next(iter(_programs))]
    _programs[key] = program


def _with_weights(
    program: "ExportedProgram | None", network: nn.Module, batch: Tensor
) -> "ExportedProgram | None":
    """Give a program the weights of a network; None if it does not compute what that does."""
    if program is None:
        return None
    state = network.state_dict(keep_vars=True)
    program._state_dict = {name: state[name] for name in program.state_dict}
    inputs = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0)).to(batch)
    with torch.no_grad():
        wanted, found = network(inputs), program.module()(inputs)
    if not isinstance(wanted, Tensor) or not isinstance(found, Tensor):
        return None
    scale = float(wanted.abs().max())
    is_same = torch.allclose(wanted, found, rtol=0.0, atol=TOLERANCE * scale, equal_nan=True)
    return program if is_same else None
