"""Where a network is while it runs: the layer, and the line of its code."""

from typing import Any

from torch import Tensor, nn

from admm_exp.pruning.dependency.by_tensor import ByTensor
from admm_exp.pruning.dependency.places import line_of_caller


class Running:
    """A network that runs.

    Args:
        model: The network.

    Attributes:
        running: Names of the layers that run, the innermost last.
        weight_rows: Rows of a weight that a layer standardises -> whose they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.running: list[str] = [""]
        self.weight_rows: ByTensor[Any] = ByTensor()
        self._named: dict[str, str] = {}
        self._owner: dict[int, tuple[str, str]] = {}
        for name, module in model.named_modules():
            for key, parameter in module.named_parameters(recurse=False):
                self._owner.setdefault(id(parameter), (name, key))

    def name_of(self, parameter: Tensor) -> str:
        """Name a parameter as the network does."""
        return ".".join(part for part in self._owner[id(parameter)] if part)

    def owner_of(self, parameter: Tensor) -> str:
        """Name the first layer that holds a parameter."""
        return self._owner[id(parameter)][0]

    @property
    def here(self) -> str:
        """Name and kind of the layer that runs."""
        return self.named(self.running[-1])

    def named(self, name: str) -> str:
        """Name a layer with its kind."""
        if name not in self._named:
            kind = type(self.model.get_submodule(name)).__name__
            self._named[name] = f"{name} ({kind})" if name else f"the {kind}"
        return self._named[name]

    @property
    def line(self) -> str | None:
        """The line of code that runs; None inside of torch's own layers."""
        kind = type(self.model.get_submodule(self.running[-1])).__module__
        return None if kind.startswith("torch.nn.modules.") else line_of_caller()

    def at_line(self, reason: str) -> str:
        """Name the line of code that runs behind a reason."""
        line = self.line
        return f"{reason} in {line}" if line else reason
