"""What the networks of this room cannot be built from or run on."""

from torch import Tensor

from admm_exp.errors import ModelError


def require_image_size(images: Tensor, smallest: int, model_name: str) -> None:
    """Refuse images that the network would shrink to nothing.

    Args:
        images: (N, C, H, W).
        smallest: Least H and W, in pixels.
        model_name: Named in the error.

    Raises:
        ModelError: H or W is below `smallest`.
    """
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise ModelError(
            f"{model_name} needs images of at least {smallest}x{smallest} pixels, "
            f"got {height}x{width}: set dataset.img_size={smallest} or choose another model"
        )


def require_positive(key: str, value: float) -> None:
    """Refuse a size of zero or less.

    Args:
        key: Named in the error, without its `model.`.
        value: The size.

    Raises:
        ModelError: `value` is not positive.
    """
    if not value > 0:
        raise ModelError(f"model.{key} must be > 0, got {value}")
