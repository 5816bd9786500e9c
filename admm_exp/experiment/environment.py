"""Where a run took place: versions, machine, code, command."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from admm_exp.tracking.provenance import ask_git, command
from admm_exp.training.distribution import world_size

PACKAGES = (
    "admm-exp",
    "torch",
    "torchvision",
    "timm",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "numpy",
)


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Record what is needed to understand and repeat a run."""
    return {
        "packages": {name: package_version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "device": str(device),
        "device_name": device_name(device),
        "command": command(),
        "directory": os.getcwd(),
        "commit": ask_git("rev-parse", "HEAD"),
        "is_dirty": bool(ask_git("status", "--porcelain")),
    }


def package_version(package: str) -> str | None:
    """Read the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def device_name(device: torch.device) -> str:
    """Name the hardware behind a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
