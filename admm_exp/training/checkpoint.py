"""Tensors on disk: safetensors, written atomically, read without pickle."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from admm_exp.errors import CheckpointError


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors so that the file is either whole or absent (write, fsync, rename)."""
    from safetensors.torch import save

    content = save(  # copies, because safetensors refuses tensors that share memory (tied weights)
        {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
    )
    write_atomically(path, content)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({error}): delete it and run again"
        ) from error


def load_into(model: nn.Module, path: Path) -> None:
    """Load a network's parameters and buffers in place, all of them or none.

    Raises:
        CheckpointError: If the file is damaged or belongs to another network.
    """
    tensors, own = load_tensors(path), model.state_dict()
    for name in [*own, *tensors]:
        found, expected = _shape(tensors, name), _shape(own, name)
        if found != expected:
            raise CheckpointError(
                f"{path} does not fit the model: {name} is {found} in the file and {expected} in "
                f"the model"
            )
    model.load_state_dict(tensors)


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(list(tensors[name].shape)) if name in tensors else "missing"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see either the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
