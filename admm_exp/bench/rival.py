"""Torch-Pruning, where it is installed: a tracer and a cut that prove nothing."""

import importlib
import importlib.metadata
import warnings
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from admm_exp.pruning.dependency.copying import copied

PACKAGE = "torch_pruning"


def rival_name() -> str | None:
    """Name it with its version; None where it is not installed."""
    if find_spec(PACKAGE) is None:
        return None
    return f"Torch-Pruning {importlib.metadata.version(PACKAGE)}"


def cut_by_rival(model: nn.Module, image: Tensor, n_classes: int) -> nn.Module:
    """Build the smaller network at sparsity 0.5 as its documentation does, the model left as it is.

    It works in place, on a network of its own here whose parameters are those of the model until
    they are cut: no time goes into a copy.
    """
    pruning: Any = importlib.import_module(PACKAGE)
    network = copied(model, {id(parameter): parameter for parameter in model.parameters()})
    modules = list(network.modules())
    kept = [m for m in modules if isinstance(m, nn.Linear) and m.out_features == n_classes]
    heads = {m: m.num_heads for m in modules if isinstance(m, nn.MultiheadAttention)}
    importance = pruning.importance.MagnitudeImportance(p=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own
        pruning.pruner.MagnitudePruner(
            network,
            image,
            importance=importance,
            pruning_ratio=0.5,
            ignored_layers=kept,
            num_heads=heads,
        ).step()
    return network
