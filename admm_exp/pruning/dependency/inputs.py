"""Example inputs as they are: a tensor, a tuple, a list, a dict, with whatever else is in them."""

import inspect
from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.pruning.dependency.structures import map_tensors, tensors_in


class Form(Enum):
    """How example inputs are handed to a network."""

    ONE = "as one argument"
    POSITIONAL = "as positional arguments"
    KEYWORDS = "as keyword arguments"
    MIXED = "as positional arguments with keyword arguments in the last"


def call(model: nn.Module, inputs: Any, form: Form | None = None) -> Any:
    """Run a network on copies of the example inputs, which it may change in place.

    Args:
        model: The network.
        inputs: A tensor or anything else is one argument; a tuple is positional arguments and a
            mapping keyword arguments, wherever the network accepts them so; a list is one argument
            first. Tensors are copied, other things handed over.
        form: How the inputs are handed over; found out if None.

    Raises:
        Exception: Whatever the network raises.
    """
    failure: Exception | None = None
    for candidate in _forms(model, inputs) if form is None else [form]:
        args, kwargs = arguments(inputs, candidate)
        try:
            return model(*args, **kwargs)
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise failure


def arguments(inputs: Any, form: Form) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copy the inputs, sorted into positional and keyword arguments."""
    return _sorted(map_tensors(inputs, lambda tensor: tensor.detach().clone()), form)


@torch.no_grad()
def accepted_form(model: nn.Module, inputs: Any) -> Form:
    """Find out how the network takes the inputs, by running it where that is not clear.

    Raises:
        Exception: Whatever the network raises, if it takes them in no way.
    """
    failure: Exception | None = None
    forms = _forms(model, inputs)
    if len(forms) == 1:
        return forms[0]
    for form in forms:
        try:
            call(model, inputs, form)
        except Exception as error:
            failure = failure or error
        else:
            return form
    assert failure is not None
    raise failure


def first_sample(inputs: Any) -> Any:
    """Take the first sample of a batch.

    Returns:
        The same structure; tensors and lists as long as the first tensor's first dimension are
        narrowed to one, others stay.
    """
    if isinstance(inputs, Tensor):
        return inputs[:1]
    if isinstance(inputs, list) and inputs and all(isinstance(item, Tensor) for item in inputs):
        return inputs[:1]  # images of different sizes, as detectors take them
    batched = [tensor for tensor in tensors_in(inputs) if tensor.dim() > 0]
    if not batched:
        return inputs
    n = len(batched[0])
    return map_tensors(inputs, lambda t: t[:1] if t.dim() > 0 and len(t) == n else t)


def device_of(inputs: Any) -> torch.device:
    """Find the device of the first tensor; the CPU if there is none."""
    tensors = tensors_in(inputs)
    return tensors[0].device if tensors else torch.device("cpu")


def to_device(inputs: Any, device: torch.device | str) -> Any:
    """Copy the tensors to a device; other things stay as they are."""
    return map_tensors(inputs, lambda tensor: tensor.to(device))


def shapes_of(inputs: Any) -> str:
    """Describe example inputs for a sentence: `an example input of shape (1, 3, 8, 8)`."""
    shapes = [str(tuple(tensor.shape)) for tensor in tensors_in(inputs)]
    if isinstance(inputs, Tensor):
        return f"an example input of shape {shapes[0]}"
    held = f"tensors of shapes {', '.join(shapes)}" if shapes else "no tensor"
    return f"an example input of type {type(inputs).__name__} with {held}"


def _sorted(inputs: Any, form: Form) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if form is Form.POSITIONAL:
        return tuple(inputs), {}
    if form is Form.KEYWORDS:
        return (), dict(inputs)
    if form is Form.MIXED:
        return tuple(inputs[:-1]), dict(inputs[-1])
    return (inputs,), {}


def _forms(model: nn.Module, inputs: Any) -> list[Form]:
    forms = [form for form in _possible(inputs) if _binds(model, inputs, form)]
    return forms or _possible(inputs)[:1]


def _possible(inputs: Any) -> list[Form]:
    if isinstance(inputs, tuple):
        if hasattr(inputs, "_fields"):  # a record of the user's, or a packed sequence
            return [Form.ONE, Form.POSITIONAL]
        mixed = [Form.MIXED] if len(inputs) > 1 and _has_keywords(inputs[-1]) else []
        return [Form.POSITIONAL, *mixed, Form.ONE]
    if isinstance(inputs, list):
        return [Form.ONE, Form.POSITIONAL]
    return [Form.KEYWORDS, Form.ONE] if _has_keywords(inputs) else [Form.ONE]


def _has_keywords(item: Any) -> bool:
    return isinstance(item, Mapping) and all(isinstance(key, str) for key in item)


def _binds(model: nn.Module, inputs: Any, form: Form) -> bool:
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return True
    args, kwargs = _sorted(inputs, form)
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
