"""What a network must be like to be followed and cut, said before anything is trained."""

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from admm_exp.errors import ModelError
from admm_exp.pruning.dependency.inputs import call, shapes_of
from admm_exp.pruning.dependency.outputs import is_measurable
from admm_exp.pruning.dependency.structures import leaves_in

WRAPPERS = (DataParallel, DistributedDataParallel)


def check_kind(model: nn.Module) -> None:
    """Refuse networks that are not plain modules any more.

    Raises:
        ModelError: If the network is traced, scripted, compiled or wrapped, or its parameters
            cannot be trained.
    """
    for name, module in model.named_modules():
        place = f"its layer {name}" if name else "the model"
        if isinstance(module, torch.jit.ScriptModule) and any(True for _ in module.parameters()):
            kind = "traced" if "Traced" in type(module).__name__ else "scripted"
            raise ModelError(
                f"{place} is {kind} (torch.jit), which fixes its sizes: give the nn.Module that "
                f"it was made from"
            )
    if isinstance(model, WRAPPERS):
        raise ModelError(f"the model is wrapped in {type(model).__name__}: give its .module")
    if hasattr(model, "_orig_mod"):
        raise ModelError("the model is compiled (torch.compile): give its ._orig_mod")
    frozen = [name for name, p in model.named_parameters() if not is_lazy(p) and p.is_inference()]
    if frozen:
        raise ModelError(
            f"{frozen[0]} was made in torch.inference_mode and cannot be trained: build the model "
            f"outside of it"
        )


def initialise_(model: nn.Module, inputs: Any) -> None:
    """Let lazy layers take their sizes from the example inputs, in place.

    Raises:
        ModelError: If the example inputs do not fit or do not reach a lazy layer.
    """
    if not _lazy(model):
        return
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            call(model, inputs)
    except Exception as error:
        raise not_accepted(inputs, error) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if left := _lazy(model):
        raise ModelError(
            f"{left[0]} is lazy and the example input does not reach it: run the model once, on "
            f"inputs that do, before it is pruned"
        )


def _lazy(model: nn.Module) -> list[str]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, tensor in named if is_lazy(tensor)]


def not_accepted(inputs: Any, error: Exception) -> ModelError:
    """Say that the network does not run on the example inputs."""
    return ModelError(f"the model does not accept {shapes_of(inputs)}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Shorten what an exception says to one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@torch.no_grad()
def random_place(model: nn.Module, inputs: Any) -> str | None:
    """Find where a network gives two outputs for the same input.

    Args:
        model: In evaluation mode.
        inputs: What it accepts.

    Returns:
        The first layer whose outputs differ though its inputs agree, or None.
    """
    if _agree(call(model, inputs), call(model, inputs)):
        return None
    first, second = _calls(model, inputs), _calls(model, inputs)
    for (name, given, made), (_, given_again, made_again) in zip(first, second, strict=False):
        if _agree(given, given_again) and not _agree(made, made_again):
            kind = type(model.get_submodule(name)).__name__
            return f"{name} ({kind})" if name else f"the {kind}"
    return None


def _calls(model: nn.Module, inputs: Any) -> list[tuple[str, Any, Any]]:
    made: list[tuple[str, Any, Any]] = []
    handles = []
    for name, module in model.named_modules():
        given: list[Any] = []

        def before(_: Any, args: Any, kwargs: Any, given: list[Any] = given) -> None:
            given.append(_copies([args, kwargs]))

        def after(_: Any, args: Any, out: Any, given: list[Any] = given, name: str = name) -> None:
            made.append((name, given.pop(), _copies(out)))

        handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]
    try:
        call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return made


def _copies(item: Any) -> list[torch.Tensor]:
    return [leaf.clone() for leaf in leaves_in(item) if is_measurable(leaf)]


def _agree(first: Any, second: Any) -> bool:
    pairs = list(zip(leaves_in(first), leaves_in(second), strict=False))
    return all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, equal_nan=True)
        for a, b in pairs
        if is_measurable(a) and is_measurable(b)
    )
