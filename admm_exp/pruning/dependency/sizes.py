"""Sizes that a network's own code remembers: integers, and tuples of them, among its attributes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from admm_exp.pruning.dependency.by_tensor import ByTensor
from admm_exp.pruning.dependency.containers import integers_in, is_integer, replaced

KNOWN = frozenset(
    {
        *("in_channels", "out_channels", "groups", "kernel_size", "stride", "padding", "dilation"),
        *("output_padding", "in_features", "out_features", "in1_features", "in2_features"),
        *("num_features", "num_groups", "num_channels", "num_parameters", "num_embeddings"),
        *("embedding_dim", "padding_idx", "input_size", "hidden_size", "num_layers", "proj_size"),
        *("embed_dim", "kdim", "vdim", "num_heads", "head_dim", "normalized_shape"),
        "_reversed_padding_repeated_twice",
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
        by_head: Whether these keep them apart along the last dimension but one, as heads, instead.

    Attributes:
        choices: (codes, layer) where a reshape could keep channels apart along two dimensions.
        positions: Dimensions whose sizes are attributes, in the reshape that runs.
        made: Constant tensor -> its dimensions that were made as long as an attribute says.
    """

    def __init__(
        self, alternatives: frozenset[str] = frozenset(), *, by_head: bool = False
    ) -> None:
        self.alternatives, self.by_head = alternatives, by_head
        self.choices: list[tuple[Tensor, str]] = []
        self.positions: tuple[int, ...] = ()
        self.made: ByTensor[dict[int, Any]] = ByTensor()

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
        if self.by_head and layer in self.alternatives:
            return dims[-2]
        return (by_attribute or others)[0] if layer in self.alternatives else usual


def remembered(module: nn.Module) -> Iterator[tuple[str, int]]:
    """List the sizes that the code of a module reads off itself.

    Its attributes and those of its class, and what tuples, lists, dicts and plain objects among
    them hold: `sizes.0`, `config.num_heads`.
    """
    for name, value in readable(module).items():
        yield from ((f"{name}{path}", size) for path, size in integers_in(value))


def readable(module: nn.Module) -> dict[str, Any]:
    """List the attributes of a module and of its class that may hold sizes of its own."""
    is_torchs = type(module).__module__.startswith("torch.nn.modules")
    if is_torchs and not isinstance(module, nn.Unflatten):
        return {}
    kinds = [kind for kind in type(module).__mro__ if kind is not nn.Module]
    of_torch = [kind for kind in kinds if kind.__module__.startswith("torch.nn.modules.")]
    known = KNOWN if any(kind not in CONTAINERS for kind in of_torch) else frozenset()
    found: dict[str, Any] = {}
    for kind in reversed(kinds):
        if kind.__module__.partition(".")[0] not in ("torch", "builtins", "typing", "abc"):
            own = {name: value for name, value in vars(kind).items() if is_integer(value)}
            found |= {name: value for name, value in own.items() if not name.startswith("__")}
    found |= {name: value for name, value in vars(module).items() if name not in EVERY_MODULES}
    return {name: value for name, value in found.items() if name not in known}


CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
EVERY_MODULES = frozenset({*vars(nn.Module()), "counted_channels"})
"""Attributes that torch gives to every module, and what norms remember, which is no size."""


def set_size_(module: nn.Module, name: str, value: int) -> None:
    """Set a size among the attributes of a module.

    What holds it is copied first: other modules may share it, and count something else.

    Args:
        module: Changed in place.
        name: As `Size` names it.
        value: What it is from now on.
    """
    attribute, *path = name.split(".")
    setattr(module, attribute, replaced(getattr(module, attribute), path, value))


@contextmanager
def traced_sizes(model: nn.Module, *, opens: bool = True) -> Iterator[None]:
    """Let the sizes of a network know where they lie, inside the `with` block.

    Args:
        model: The network.
        opens: Whether dicts and objects are opened; while it runs each module has its own copy.
    """
    before: list[tuple[Any, str, Any, Any]] = []
    for layer, module in model.named_modules():
        for name, value in readable(module).items():
            if not (opens or is_integer(value) or isinstance(value, list | tuple)):
                continue
            marked = _marked(value, layer, name)
            if marked is not value:
                before.append((module, name, vars(module).get(name), marked))
                vars(module)[name] = marked
    try:
        yield
    finally:
        for module, name, value, marked in before:
            if vars(module).get(name) is marked:
                if value is None:  # an attribute of its class
                    del vars(module)[name]
                else:
                    vars(module)[name] = value


def _marked(value: Any, layer: str, name: str) -> Any:
    for path, size in integers_in(value):
        value = replaced(value, path.split(".")[1:], Size(size, layer, f"{name}{path}"))
    return value
