"""Where a run took place: versions, machine, code, command."""

import hashlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from admm_exp.provenance import ask_git, command
from admm_exp.training.distribution import world_size

PACKAGES = (
    "admm-exp",
    "torch",
    "torchvision",
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


def source_digest(model: nn.Module) -> str:
    """Hash the code that a network's layers come from, PyTorch's own left out.

    A cached network must not be reused for code that computes something else with its weights.
    """
    return _digest_of_files({type(module).__module__ for module in model.modules()})


def code_digest(built: Any) -> str:
    """Hash the file that a function, a partial one, or the class of an object comes from."""
    origin = getattr(built, "func", built)
    return _digest_of_files({getattr(origin, "__module__", type(origin).__module__)})


def _digest_of_files(names: set[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and not name.startswith(("torch.", "torchvision.")):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:16]


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
