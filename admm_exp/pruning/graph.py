"""Torch-Pruning's only home: the dependency graph of a network and the cut."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.pruner import function

from admm_exp.errors import AdmmExpError, ModelError

OPTYPE = tp.ops.OPTYPE
PRODUCER_TYPES = {OPTYPE.CONV, OPTYPE.DEPTHWISE_CONV, OPTYPE.LINEAR}
UNIT_TYPES = PRODUCER_TYPES | {OPTYPE.BN, OPTYPE.IN, OPTYPE.PRELU}
PARAMETERISED_TYPES = UNIT_TYPES | {
    OPTYPE.LN,
    OPTYPE.GN,
    OPTYPE.EMBED,
    OPTYPE.PARAMETER,
    OPTYPE.MHA,
    OPTYPE.LSTM,
}


@dataclass(frozen=True)
class Site:
    """One layer that a group of channels passes through.

    Args:
        module: Name of the layer in the network.
        type: Torch-Pruning's operation type.
        is_producer_side: Whether the channels are the layer's output (or pass through it), so
            that its scalars belong to the units; otherwise the layer only consumes them.
        rows: (n_units, m) int64, the layer's channels owned by each unit.
        is_identity: Whether unit c is channel c and the layer has no other channels.
    """

    module: str
    type: int
    is_producer_side: bool
    rows: Tensor
    is_identity: bool


@dataclass(frozen=True)
class TracedGroup:
    """Channels that can only be removed together, as the dependency graph sees them.

    Args:
        root: Name of the producer by which the group is cut.
        n_units: Number of channels.
        sites: Layers the channels pass through; empty if the rows could not be told.
        reason: Why the group has to stay whole, or None.
    """

    root: str
    n_units: int
    sites: tuple[Site, ...]
    reason: str | None = None


def trace_groups(model: nn.Module, example_input: Tensor) -> list[TracedGroup]:
    """Find the channel groups of a network.

    Args:
        model: The network; left in the mode it was in.
        example_input: (B, ...) input that the network accepts.

    Raises:
        ModelError: If the network does not accept the example input or cannot be traced.
    """
    with _graph_of(model, example_input) as graph:
        groups = graph.get_all_groups(root_module_types=(tp.ops.TORCH_CONV, tp.ops.TORCH_LINEAR))
        return [_describe(graph, group) for group in groups]


def remove_channels(
    model: nn.Module, example_input: Tensor, removed: Sequence[tuple[str, Sequence[int]]]
) -> None:
    """Remove channels in place, with everything that depends on them.

    Args:
        model: The network; changed in place.
        example_input: (B, ...) input that the network accepts.
        removed: Per group the name of its root layer and the channels to remove.
    """
    with _graph_of(model, example_input) as graph:
        for root, channels in removed:
            if channels:
                layer = model.get_submodule(root)
                cut = graph.get_pruner_of_module(layer).prune_out_channels
                graph.get_pruning_group(layer, cut, list(channels)).prune()


class _BlockConvPruner(function.ConvPruner):
    """Cuts the inputs of a grouped convolution block by block.

    Torch-Pruning keeps the first kept columns of all blocks, which is right only when every block
    keeps the same positions; here each block keeps its own.
    """

    def prune_in_channels(self, layer: Any, idxs: Sequence[int]) -> nn.Module:
        if layer.groups == 1 or layer.transposed:
            return super().prune_in_channels(layer, idxs)
        kept = torch.ones(layer.in_channels, dtype=torch.bool)
        kept[list(idxs)] = False
        blocks = zip(layer.weight.chunk(layer.groups), kept.chunk(layer.groups), strict=True)
        columns = [weight[:, keep.nonzero().flatten().to(weight.device)] for weight, keep in blocks]
        layer.weight = nn.Parameter(torch.cat(columns).detach().clone())
        layer.in_channels -= len(idxs)
        return layer


class _Input(nn.Module):
    """Stands for the network's input, which the graph, read off autograd, would leave out.

    Without it, channels behind a concatenation with the input are taken for their neighbours.
    """

    def __init__(self, example_input: Tensor) -> None:
        super().__init__()
        self.channels = example_input.shape[1] if example_input.dim() > 1 else None
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.one if inputs.is_floating_point() else inputs


class _InputPruner(function.BasePruningFunc):
    def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> nn.Module:
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: Any) -> int | None:
        return layer.channels

    get_in_channels = get_out_channels


class _Traced(nn.Module):
    def __init__(self, network: nn.Module, example_input: Tensor) -> None:
        super().__init__()
        self.network = network
        self.input = _Input(example_input)

    def forward(self, inputs: Tensor) -> Any:
        return self.network(self.input(inputs))


class _Graph(tp.DependencyGraph):
    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        super().__init__()
        pruner = _BlockConvPruner()
        self.REGISTERED_PRUNERS[OPTYPE.CONV] = pruner
        self.register_customized_layer(_Input, _InputPruner())
        self.build_dependency(_Traced(model, example_input), (example_input,), verbose=False)
        self.model = model
        self._module2name = {module: name for name, module in model.named_modules()}
        self._param_to_name = {parameter: name for name, parameter in model.named_parameters()}

    def name(self, node: tp.dependency.Node) -> str:
        """Name the layer or parameter of a node as the network does."""
        names = self._param_to_name if node.type == OPTYPE.PARAMETER else self._module2name
        return names.get(node.module, type(node.module).__name__)


@contextmanager
def _graph_of(model: nn.Module, example_input: Tensor) -> Iterator[_Graph]:
    modes = {module: module.training for module in model.modules()}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    model.eval()
    try:
        _check_forward(model, example_input)
        for name in frozen:  # the graph is read off autograd
            model.get_parameter(name).requires_grad_(True)
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield _trace(model, example_input)
    finally:
        for name in frozen:  # by name: a cut replaces parameters
            model.get_parameter(name).requires_grad_(False)
        for module, mode in modes.items():
            module.training = mode


def _trace(model: nn.Module, example_input: Tensor) -> _Graph:
    try:
        return _Graph(model, example_input)
    except Exception as error:  # whatever breaks on an unknown network
        raise ModelError(
            f"the channels of the model cannot be followed "
            f"({type(error).__name__}: {_first_line(error)}); a reshape or shuffle across channels "
            f"is the usual cause"
        ) from error


def _check_forward(model: nn.Module, example_input: Tensor) -> None:
    try:
        with torch.no_grad():
            model(example_input)
    except AdmmExpError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model does not accept an example input of shape {tuple(example_input.shape)}: "
            f"{_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _describe(graph: _Graph, group: tp.dependency.Group) -> TracedGroup:
    root = graph.name(group[0].dep.target)
    n_units = len(group[0].idxs)
    sites, reasons = [], []
    for item in group.items:
        node, handler = item.dep.target, item.dep.handler
        is_output = graph.is_out_channel_pruning_fn(handler)
        if node.type == OPTYPE.OUTPUT or (is_output and not node.outputs):
            reasons.append("its channels are the output of the network")
        reasons += _obstacles(node)
        if node.type not in PARAMETERISED_TYPES:
            continue
        site = _site(graph, item, n_units, is_output)
        if site is None:
            reasons.append(f"its channels cannot be followed through {graph.name(node)}")
        elif is_output and node.type not in UNIT_TYPES:
            kind = type(node.module).__name__
            reasons.append(f"it passes through {site.module} ({kind}), which mixes channels")
        else:
            sites.append(site)
    return TracedGroup(root, n_units, tuple(sites), reasons[0] if reasons else None)


def _obstacles(node: tp.dependency.Node) -> list[str]:
    if isinstance(node.module, _Input):
        return ["its channels are tied to the input of the network"]
    if node.grad_fn is None:
        return []
    if node.type == OPTYPE.CONCAT:
        if any(source is None for source, _ in node.grad_fn.next_functions):
            return ["its channels are concatenated with a constant"]
        if node.module.offsets is None:
            return ["its channels cannot be followed through a concatenation"]
    shape = node.grad_fn._input_metadata[0].shape
    pad: Sequence[int] = getattr(node.grad_fn, "_saved_pad", ())
    if any(pad[2 * len(shape[2:]) :]):
        return ["its channels are padded"]
    before: Sequence[int] = getattr(node.grad_fn, "_saved_self_sym_sizes", ())
    is_split = len(before) > 3 and 2 < len(shape) != len(before) and before[1] != shape[1]
    if node.type == OPTYPE.RESHAPE and is_split:
        return ["its channels are rearranged by a reshape"]
    return []


def _site(graph: _Graph, item: tp._helpers.GroupItem, n_units: int, is_output: bool) -> Site | None:
    node = item.dep.target
    rows = torch.tensor(list(item.idxs), dtype=torch.int64)
    if None in item.root_idxs:
        return None
    units = torch.tensor(list(item.root_idxs), dtype=torch.int64)
    counts = units.bincount(minlength=n_units)
    if len(counts) != n_units or counts.min() != counts.max():
        return None
    channels = graph.get_out_channels(node) if is_output else graph.get_in_channels(node)
    is_owned_once = len(rows) == len(rows.unique())
    if not is_owned_once or (channels is not None and int(rows.max()) >= channels):
        return None
    order = (units * (int(rows.max()) + 1) + rows).argsort()
    rows = rows[order].view(n_units, -1)
    is_identity = rows.shape == (channels, 1) and bool((rows[:, 0] == torch.arange(n_units)).all())
    return Site(graph.name(node), int(node.type), is_output, rows, is_identity)
