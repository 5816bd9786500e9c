"""Running statistics of norm layers, estimated anew after the weights have changed under them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from admm_exp.training.loop import Batch
from admm_exp.training.precision import PLAIN, Stepping
from admm_exp.training.seeding import restore_rng_state, rng_state
from admm_exp.training.shared_batch_norm import shared_batch_norm


@torch.inference_mode()
def recalibrate_(model: nn.Module, batches: Iterable[Batch], stepping: Stepping = PLAIN) -> None:
    """Replace running means and variances by their plain average over the batches, in place.

    Nothing of the old statistics stays, and all batches count alike. Every other layer works as
    in evaluation. Modes, momenta and the random generators, which augmentation may draw from, end
    as they were. A network without running statistics never asks for a batch.

    Args:
        model: The network.
        batches: (inputs, targets) on the network's device; a tuple of inputs is positional
            arguments, a mapping keyword arguments, anything else one argument.
        stepping: In which number format the network computes.

    References:
        Li et al. 2020, EagleEye, arXiv 2007.02491, section 3.3 (adaptive batch normalization).

    Raises:
        ValueError: If there is no batch.
    """
    layers = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    if not layers:
        return
    modes = {module: module.training for module in model.modules()}
    momenta = [layer.momentum for layer in layers]
    generators = rng_state()
    n_batches, device = 0, next(iter(layers[0].buffers())).device
    model.eval()
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
            layer.momentum = None  # the cumulative average
        for n_batches, (inputs, _) in enumerate(batches, start=1):
            for layer in layers:
                if isinstance(layer, _InstanceNorm):  # reads None as 0
                    layer.momentum = 1.0 / n_batches
            with shared_batch_norm(), stepping.autocast(device):
                _run(model, inputs)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
        restore_rng_state(generators)
    if n_batches == 0:
        raise ValueError("the statistics of norm layers need at least one batch")


def _run(model: nn.Module, inputs: Any) -> None:
    if isinstance(inputs, tuple):
        model(*inputs)
    elif isinstance(inputs, Mapping):
        model(**inputs)
    else:
        model(inputs)
