"""Where the tensors live."""

import torch

from admm_exp.errors import DeviceError


def resolve_device(name: str, local_rank: int | None = None) -> torch.device:
    """Turn the setting `device` into a device that this machine has.

    Args:
        name: `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda`, `cuda:i` or `mps`.
        local_rank: Number of this process on its machine if several train together: `auto` and
            `cuda` then mean the GPU of that number.

    Raises:
        DeviceError: No such device here, or no such name.
    """
    available = _available_devices()
    if name == "auto":
        name = "cuda" if "cuda" in available else "cpu"
    if name == "cuda" and local_rank is not None:
        name = f"cuda:{local_rank}"
    if name not in available:
        raise DeviceError(
            f"device={name} is not available here, choose one of auto, {', '.join(available)}"
        )
    return torch.device(name)


def _available_devices() -> list[str]:
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    return available
