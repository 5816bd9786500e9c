"""Where the tensors live, and how many threads work on them."""

import os

import torch

from admm_exp.errors import DeviceError

SMALL_STEP_MACS = 1e8
"""Below so many multiply-accumulates a batch, threads wait for each other longer than they work."""
N_THREADS = torch.get_num_threads()


def resolve_device(name: str, local_rank: int | None = None, n_local: int = 1) -> torch.device:
    """Turn the setting `device` into a device that this machine has.

    Args:
        name: `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda`, `cuda:i` or `mps`.
        local_rank: Number of this process on its machine if several train together: `auto` and
            `cuda` then mean the GPU of that number.
        n_local: How many processes this one has started on its machine to train with, itself
            included.

    Raises:
        DeviceError: No such device here, too few of them, or no such name.
    """
    available = _available_devices()
    if name == "auto":
        name = "cuda" if "cuda" in available else "cpu"
    if name == "cuda" and 0 < (n_gpus := torch.cuda.device_count()) < n_local:
        raise DeviceError(
            f"trainer.devices={n_local} takes a GPU each, and this machine has {n_gpus}: "
            f"take trainer.devices={n_gpus} or device=cpu"
        )
    if name == "cuda" and local_rank is not None:
        name = f"cuda:{local_rank}"
    if name not in available:
        raise DeviceError(
            f"device={name} is not available here, choose one of auto, {', '.join(available)}"
        )
    return torch.device(name)


def use_device(device: torch.device) -> None:
    """Make a GPU the current one, which timers wait for; "cuda" is the current one already."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def use_threads(step_macs: float) -> None:
    """Let one thread work on small networks, and as many as torch takes by itself on others.

    Where OMP_NUM_THREADS is set, that number stays.

    Args:
        step_macs: Multiply-accumulates of one batch, forward.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1 if step_macs < SMALL_STEP_MACS else N_THREADS)


def _available_devices() -> list[str]:
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    return available
