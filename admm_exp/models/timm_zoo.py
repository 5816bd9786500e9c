"""Any of timm's networks by name, with the head and the stem that the data asks for."""

import difflib
from types import ModuleType
from typing import Any

from torch import nn

from admm_exp.errors import ModelError


def timm_model(
    architecture: str,
    num_classes: int,
    pretrained: bool = False,
    image_size: int | None = None,
    in_channels: int = 3,
) -> nn.Module:
    """Build a classifier of timm.

    Args:
        architecture: Timm's name, as `vit_tiny_patch16_224`.
        num_classes: Outputs.
        pretrained: Whether to load timm's weights; downloaded at the first use.
        image_size: Height and width of the images, for networks that are built for one size; None
            takes the one of the architecture.
        in_channels: Channels of the images; timm sums or repeats a pretrained stem.

    Raises:
        ModelError: Unknown architecture, one that is not built for a size, weights that cannot be
            loaded, or no timm.
    """
    timm = _timm()
    if not timm.is_model(architecture):
        known = timm.list_models()
        raise ModelError(
            f"model.name={architecture!r} is no network of timm{_nearest(architecture, known)}"
        )
    options: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    try:
        model: nn.Module = timm.create_model(
            architecture,
            pretrained=pretrained,
            num_classes=num_classes,
            in_chans=in_channels,
            **options,
        )
    except TypeError as error:
        raise ModelError(
            f"model.image_size={image_size} cannot be given to {architecture}, which takes images "
            f"of any size: set model.image_size=null ({error})"
        ) from error
    except (OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model.pretrained={str(pretrained).lower()}: {architecture} could not be built "
            f"({reason}): connect, or set model.pretrained=false"
        ) from error
    return model


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ModelError("model=timm needs timm: run pip install 'admm-exp[timm]'") from error
    return timm


def _nearest(name: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(name, known)
    if matches:
        return f", did you mean {' or '.join(matches)}?"
    return ", see timm.list_models() for the names"
