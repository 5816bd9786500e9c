"""What can be pruned inside the weights of single layers: convolutions and linear layers."""

from collections import Counter
from typing import Any

import torch
from torch import nn

from admm_exp.admm.partition import Partition
from admm_exp.admm.partitions.filter import Filter
from admm_exp.errors import AdmmExpError, ModelError
from admm_exp.pruning.dependency.checks import not_accepted
from admm_exp.pruning.dependency.inputs import call
from admm_exp.pruning.surgery.groups import KeptGroup, Prunable, PrunableGroup

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
Weighted = nn.modules.conv._ConvNd | nn.Linear


def find_layers(model: nn.Module, example_input: Any, partition: Partition) -> Prunable:
    """Find the weights that a partition divides, each as a group of its own.

    The weights of all convolutions and linear layers that run count, the first and the last
    included; biases and norm layers are never constrained. Filters of the layer that runs last stay
    whole, because they are the outputs of the network.

    Args:
        model: The network.
        example_input: Inputs that the network accepts.
        partition: How a weight is divided.

    Raises:
        ModelError: If nothing can be pruned or the example input does not fit.
    """
    groups: list[PrunableGroup] = []
    kept: list[KeptGroup] = []
    uses = Counter(p for module in model.modules() for p in module.parameters(recurse=False))
    order = _order_of_calls(model, example_input)
    for name, layer in model.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        reason = "it does not run" if layer not in order else _obstacle(layer, uses, partition)
        if reason is None and isinstance(partition, Filter) and layer is order[-1]:
            reason = "its filters are the outputs of the network"
        if reason is None:
            groups.append(_group(name, layer, partition))
        else:
            kept.append(KeptGroup(name, (name,), _outputs(layer), reason))
    if not groups:
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in kept)
        raise ModelError(
            f"the model has no {partition.unit} to prune"
            + (f" ({reasons})" if reasons else ", it holds no convolution or linear layer")
        )
    return Prunable(tuple(groups), tuple(kept))


def output_dim(layer: nn.Module) -> int:
    """Name the dimension of a layer's weight that holds its outputs."""
    return 1 if getattr(layer, "transposed", False) else 0


def _obstacle(layer: Weighted, uses: Counter[nn.Parameter], partition: Partition) -> str | None:
    weight = layer._parameters.get("weight")
    if weight is None:
        return "it computes its weight from other parameters"
    if not weight.requires_grad:
        return "it is frozen"
    if uses[weight] > 1:
        return "it shares its weight with another layer"
    if output_dim(layer) == 1 and layer.groups != 1:
        return "it is a grouped transposed convolution"
    return partition.obstacle(weight.movedim(output_dim(layer), 0).shape)


def _group(name: str, layer: Weighted, partition: Partition) -> PrunableGroup:
    dim = output_dim(layer)
    weight = layer.weight.detach().movedim(dim, 0)
    rows = torch.arange(weight.shape[0]).unsqueeze(1)
    return PrunableGroup(
        name=name,
        producers=(name,),
        n_units=partition.units(weight).shape[0],
        n_blocks=partition.count_blocks(weight.shape),
        parts=((f"{name}.weight" if name else "weight", dim, rows),),
    )


def _outputs(layer: Weighted) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def _order_of_calls(model: nn.Module, example_input: Any) -> list[nn.Module]:
    """List the layers in the order in which one forward pass runs them, repeats included."""
    order: list[nn.Module] = []
    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    handles = [layer.register_forward_pre_hook(lambda m, _: order.append(m)) for layer in layers]
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            call(model.eval(), example_input)
    except AdmmExpError:
        raise
    except Exception as error:
        raise not_accepted(example_input, error) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return order
