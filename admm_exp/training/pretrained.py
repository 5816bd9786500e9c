"""Weights that somebody else trained: read from a file without running what it holds."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import CheckpointError
from admm_exp.training.checkpoint import require_fit, unpacked

NESTED = ("state_dict", "model")
"""Keys under which training scripts keep the network's tensors."""
WRAPPER = "module."
"""What DistributedDataParallel puts before every name."""
COUNTER = "num_batches_tracked"
"""Buffer of batch norms that older files lack; only a momentum of None reads it."""


def load_pretrained(model: nn.Module, path: str | Path) -> None:
    """Fill a network with the weights of a file, all of them or none.

    Args:
        model: The network; filled in place.
        path: A safetensors file, or a state dict that `torch.save` wrote: bare or under
            `state_dict` or `model`, with or without the prefix of DistributedDataParallel.

    Raises:
        CheckpointError: If the file is missing, damaged, holds more than tensors, or belongs to
            another network, with the first names that differ.
    """
    expected = model.state_dict()
    counters = {name: tensor for name, tensor in expected.items() if name.endswith(COUNTER)}
    tensors = counters | read_weights(path)
    require_fit(tensors, expected, f"pretrained={path}")
    model.load_state_dict(tensors)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name; nothing that a pickle names is executed.

    Raises:
        CheckpointError: If the file is missing, damaged or holds more than tensors.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return unpacked(Path(path).read_bytes())[0]
        with warnings.catch_warnings(action="ignore"):  # of what it is about to refuse
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"pretrained={path} holds more than tensors, or is damaged, and is not executed: "
            f"write it with torch.save(model.state_dict(), FILE) or as model.safetensors"
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "damaged or of another format"
        raise CheckpointError(
            f"pretrained={path} cannot be read ({reason}): give a state dict that torch.save "
            f"wrote, or a .safetensors file"
        ) from error
    tensors = _unwrapped(content)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(
            f"pretrained={path} holds no state dict: it must map names to tensors, bare or under "
            f"{' or '.join(NESTED)}"
        )
    return tensors


def _unwrapped(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    nested = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), None)
    tensors = {str(name): tensor for name, tensor in (nested or content).items()}
    if all(name.startswith(WRAPPER) for name in tensors):
        tensors = {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()}
    return tensors
