"""Sizes that a network's own code remembers: integers, and tuples of them, among its attributes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

KNOWN = frozenset(
    {
        *("in_channels", "out_channels", "groups", "kernel_size", "stride", "padding", "dilation"),
        *("output_padding", "in_features", "out_features", "in1_features", "in2_features"),
        *("num_features", "num_groups", "num_channels", "num_parameters", "num_embeddings"),
        *("embedding_dim", "padding_idx", "input_size", "hidden_size", "num_layers", "proj_size"),
        *("embed_dim", "kdim", "vdim", "num_heads", "head_dim", "normalized_shape"),
    }
)
"""Sizes of torch's own layers, which the cut sets by the tensors."""


class Size(int):
    """An integer attribute of a module that knows where it lies.

    Args:
        value: The integer.
        layer: Name of the module.
        name: Name of the attribute; `sizes.0` is the first entry of a tuple or list `sizes`.
        factor: What the attribute was multiplied with.
    """

    layer: str
    name: str
    factor: int

    def __new__(cls, value: int, layer: str, name: str, factor: int = 1) -> "Size":
        """Make the integer."""
        size = super().__new__(cls, value)
        size.layer, size.name, size.factor = layer, name, factor
        return size

    def __mul__(self, other: Any) -> Any:
        """Remember what it was multiplied with."""
        if not isinstance(other, int) or other < 1:
            return int(self) * other
        product = int(self) * int(other)
        return Size(product, self.layer, self.name, self.factor * int(other))

    __rmul__ = __mul__

    def __neg__(self) -> "Size":
        """Count from the end, as slices do."""
        return Size(-int(self), self.layer, self.name, self.factor)

    def __reduce__(self) -> Any:
        """Copy and pickle as the integer that it is."""
        return int, (int(self),)


class Sizes:
    """What is known of the sizes in a network's code while it runs.

    Args:
        alternatives: Layers whose reshapes keep channels apart along another dimension than the
            usual one: the first whose size is an attribute.

    Attributes:
        choices: (codes, layer) where a reshape could keep channels apart along two dimensions.
        positions: Dimensions whose sizes are attributes, in the reshape that runs.
        made: Constant tensor -> its dimensions that were made as long as an attribute says.
    """

    def __init__(self, alternatives: frozenset[str] = frozenset()) -> None:
        self.alternatives = alternatives
        self.choices: list[tuple[Tensor, str]] = []
        self.positions: tuple[int, ...] = ()
        self.made = WeakTensorKeyDictionary()

    def chosen(self, codes: Tensor, dims: Sequence[int], usual: int, layer: str) -> int:
        """Choose along which of several dimensions channels stay apart.

        Args:
            codes: Of the reshaped tensor.
            dims: Dimensions along which they differ.
            usual: The one to take if nothing speaks against it.
            layer: Name of the layer that reshapes.
        """
        others = [dim for dim in dims if dim != usual]
        by_attribute = [dim for dim in others if dim in self.positions]
        if not by_attribute and len(others) > 1:  # the dimension of 3 in q, k, v is the shortest
            by_attribute = [max(others, key=lambda dim: codes.shape[dim])]
        self.choices.append((codes.flatten(), layer))
        return (by_attribute or others)[0] if layer in self.alternatives else usual


def remembered(module: nn.Module) -> Iterator[tuple[str, int]]:
    """List the sizes among the attributes of a module."""
    is_torchs = type(module).__module__.startswith("torch.nn.modules")
    if is_torchs and not isinstance(module, nn.Unflatten):
        return
    has_known = any(
        kind.__module__.startswith("torch.nn.modules.")
        for kind in type(module).__mro__
        if kind is not nn.Module and kind not in CONTAINERS
    )
    for name, value in vars(module).items():
        if (name.startswith("_") and name != "_size") or (has_known and name in KNOWN):
            continue
        if _is_integer(value):
            yield name, value
        elif isinstance(value, list | tuple) and type(value) in (list, tuple):
            yield from ((f"{name}.{i}", v) for i, v in enumerate(value) if _is_integer(v))


CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def set_size_(module: nn.Module, name: str, value: int) -> None:
    """Set a size among the attributes of a module.

    Args:
        module: Changed in place.
        name: As `Size` names it.
        value: What it is from now on.
    """
    attribute, _, place = name.partition(".")
    if place:
        entries = list(getattr(module, attribute))
        entries[int(place)] = value
        setattr(module, attribute, type(getattr(module, attribute))(entries))
    else:
        setattr(module, attribute, value)


@contextmanager
def traced_sizes(model: nn.Module) -> Iterator[None]:
    """Let the sizes of a network know where they lie, inside the `with` block."""
    before: list[tuple[Any, str, Any, Any]] = []
    for layer, module in model.named_modules():
        for name in dict.fromkeys(name.partition(".")[0] for name, _ in remembered(module)):
            value = vars(module)[name]
            marked = _marked(value, layer, name)
            before.append((module, name, value, marked))
            vars(module)[name] = marked
    try:
        yield
    finally:
        for module, name, value, marked in before:
            if vars(module).get(name) is marked:
                vars(module)[name] = value


def _marked(value: Any, layer: str, name: str) -> Any:
    if _is_integer(value):
        return Size(value, layer, name)
    marked = [Size(v, layer, f"{name}.{i}") if _is_integer(v) else v for i, v in enumerate(value)]
    return type(value)(marked)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1
