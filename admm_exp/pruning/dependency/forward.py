"""Run a network once, and run its labels beside it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.inputs import accepted_form, arguments
from admm_exp.pruning.dependency.norms import as_written
from admm_exp.pruning.dependency.size_rules import run_sized
from admm_exp.pruning.dependency.sizes import traced_sizes
from admm_exp.pruning.dependency.structures import tensors_in

Rule = Callable[..., Any]


class _Layers(TorchFunctionMode):
    """Sees whole layers: calls of `torch.nn.functional` and the like."""

    def __init__(self, flow: Flow, rules: dict[Any, Rule]) -> None:
        super().__init__()
        self.flow, self.rules = flow, rules

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = self.rules.get(func)
        if rule is None:
            self.flow.sketch.check_function(func)
            return run_sized(self.flow, func, args, kwargs or {})

        def unseen(*args: Any, **kwargs: Any) -> Any:
            self.flow.is_inside_layer = True
            try:
                return func(*args, **kwargs)
            finally:
                self.flow.is_inside_layer = False

        with torch._C._DisableTorchDispatch():  # arithmetic of labels is not the network's
            return rule(self.flow, unseen, *args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    """Sees every tensor operation below the layers."""

    def __init__(self, flow: Flow, rule: Rule) -> None:
        super().__init__()
        self.flow, self.rule = flow, rule

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.flow.is_inside_layer:
            return func(*args, **(kwargs or {}))
        self.flow.sketch.check_operation(func, args)
        return self.rule(self.flow, func, args, kwargs or {})


def follow(
    flow: Flow,
    example_input: Any,
    layer_rules: dict[Any, Rule],
    operation_rule: Rule,
    *,
    opens: bool = True,
) -> None:
    """Run the network once, in the mode it is in, with its labels beside it.

    Args:
        flow: Where everything is noted.
        example_input: Inputs that the network accepts.
        layer_rules: Function -> (flow, function, its arguments) -> its result.
        operation_rule: (flow, operation, args, kwargs) -> its result.
        opens: As `traced_sizes` takes it.
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    args, kwargs = arguments(example_input, accepted_form(flow.model, example_input))
    fixed = flow.labels.fixed("its channels are tied to the input of the network", is_anywhere=True)
    for tensor in tensors_in([args, kwargs]):
        flow.mark(tensor, fixed.view([1] * tensor.dim()))
    try:
        with (
            _names_of_running_layers(flow),
            as_written(),
            traced_sizes(flow.model, opens=opens),
            torch.no_grad(),
            _Operations(flow, operation_rule),
            _Layers(flow, layer_rules),
        ):
            outputs = flow.model(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    made = tensors_in(outputs)
    for number, output in enumerate(made, 1):
        codes = flow.codes(output)
        which = "the output" if len(made) == 1 else f"output {number}"
        if codes is not None:
            flow.labels.keep(codes, f"its channels are {which} of the network")


@contextmanager
def _names_of_running_layers(flow: Flow) -> Iterator[None]:
    def leave(module: Any, inputs: Any, outputs: Any) -> None:
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            flow.leave(outputs)

    handles = []
    for name, module in flow.model.named_modules():
        enter = partial(_enter, flow, name)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(flow: Flow, name: str, module: Any, inputs: Any) -> None:
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        flow.enter(name, inputs)
