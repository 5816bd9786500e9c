"""Any of torchvision's classifiers by name, with the head and the stem that the data asks for."""

import difflib
from typing import Any

from torch import nn

from admm_exp.errors import ModelError

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
SMALLEST_INPUT = {"inception_v3": 96, "vit_h": 224, "vit": 224, "maxvit": 224, "swin": 64}
"""Pixels by the beginning of a name where 64 are too few or the size is fixed."""


def torchvision_model(
    architecture: str, num_classes: int, weights: str | None = None, in_channels: int = 3
) -> nn.Module:
    """Build a classifier of torchvision.

    Auxiliary heads are left out. Where the weights were trained on another number of classes the
    last layer is replaced by a fresh one.

    Args:
        architecture: Torchvision's name, as `resnet50`.
        num_classes: Outputs.
        weights: None, `DEFAULT`, or a name as `IMAGENET1K_V1`; downloaded at the first use.
        in_channels: Channels of the images; other than 3 only without weights.

    Raises:
        ModelError: Unknown architecture or weights, weights for 3 channels asked for other
            images, or weights that cannot be loaded.
    """
    known = classifier_names()
    if architecture not in known:
        raise ModelError(
            f"model.name={architecture!r} is no classifier of torchvision"
            f"{_nearest(architecture, known)}"
        )
    if weights is None:
        return _untrained(architecture, num_classes, in_channels)
    if in_channels != 3:
        raise ModelError(
            f"model.weights={weights} needs images of 3 channels, got {in_channels}: "
            "set model.weights=null or load the images in color"
        )
    return _pretrained(architecture, num_classes, weights)


def classifier_names() -> list[str]:
    """List torchvision's classifiers."""
    from torchvision import models

    return list(models.list_models(module=models))


def smallest_input(architecture: str) -> int:
    """Pixels of a small square image that the network accepts, a multiple of its windows."""
    for name, pixels in SMALLEST_INPUT.items():
        if architecture.startswith(name):
            return pixels
    return 64


def _untrained(architecture: str, num_classes: int, in_channels: int) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {}
    if architecture in WITH_AUXILIARY_HEADS:
        options = {"aux_logits": False, "init_weights": True}
    model = models.get_model(architecture, weights=None, num_classes=num_classes, **options)
    if in_channels != 3:
        name, stem = _layers(model, nn.Conv2d)[0]
        model.set_submodule(name, _convolution_like(stem, in_channels, stem.out_channels))
    return model


def _pretrained(architecture: str, num_classes: int, weights: str) -> nn.Module:
    from torchvision import models

    choices = models.get_model_weights(architecture).__members__
    if weights not in choices:
        raise ModelError(
            f"model.weights={weights!r} is not known for {architecture}, "
            f"choose one of null, {', '.join(choices)}"
        )
    try:
        model = models.get_model(architecture, weights=choices[weights])
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"model.weights={weights} could not be loaded ({error}): connect, or put a fresh "
            f"{choices[weights].url} into the folder checkpoints of torch.hub.get_dir()"
        ) from error
    if architecture == "inception_v3":
        model.aux_logits, model.AuxLogits = False, None
    if num_classes != len(choices[weights].meta["categories"]):
        _replace_head_(model, num_classes)
    return model


def _replace_head_(model: nn.Module, num_classes: int) -> None:
    name, head = _layers(model, nn.Linear, nn.Conv2d)[-1]
    if isinstance(head, nn.Linear):
        fresh: nn.Module = nn.Linear(head.in_features, num_classes)
    else:
        fresh = _convolution_like(head, head.in_channels, num_classes)
    model.set_submodule(name, fresh)


def _layers(model: nn.Module, *kinds: type[nn.Module]) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]


def _convolution_like(convolution: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    shape = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    options: dict[str, Any] = {name: getattr(convolution, name) for name in shape}
    bias = convolution.bias is not None
    return nn.Conv2d(in_channels, out_channels, bias=bias, **options)


def _nearest(name: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(name, known)
    if matches:
        return f", did you mean {' or '.join(matches)}?"
    return ", see torchvision.models.list_models() for the names"
