"""Tensors on disk: safetensors, written atomically, read without pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import CheckpointError
from admm_exp.results import write_atomically

DIFFERENCES_TOLD = 3
FORMATS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls the types of numbers."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors so that the file is either whole or absent (write, fsync, rename)."""
    write_atomically(path, packed(tensors))


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the content of a safetensors file.

    The library's own writer takes 6 times as long, which would count after every epoch, and
    refuses tensors that share memory (tied weights).

    Args:
        tensors: On any device; they may share memory.
        metadata: Texts that go into the file's header.

    References:
        https://github.com/huggingface/safetensors: 8 bytes with the length of a JSON header, the
        header, then the values, which a reader that maps the file wants aligned.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, end = [], 0
    for name, tensor in sorted(_on_cpu(tensors).items(), key=lambda item: -item[1].itemsize):
        values = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        start, end = end, end + values.size
        dtype, shape = FORMATS[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        parts.append(values.data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


class HostCopies:
    """Copies of tensors in host memory, of what they hold now, without stopping their devices.

    A GPU copies when it has done what it was told before; nobody waits until `tensors` is asked.

    Args:
        tensors: On any device; they may change as soon as this is made.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._copies = {name: _host_copy(tensor.detach()) for name, tensor in tensors.items()}
        self._copied = []
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
            self._copied.append(event)

    def tensors(self) -> dict[str, Tensor]:
        """Wait until all is copied."""
        for event in self._copied:
            event.synchronize()
        return self._copies


def _host_copy(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.cpu() if tensor.device.type != "cpu" else tensor.clone()
    # A copy into other than pinned memory waits for the device.
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors from a GPU one after the other without waiting in between, then wait once."""
    copies = {name: t.detach().to("cpu", non_blocking=t.is_cuda) for name, t in tensors.items()}
    for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
        torch.cuda.synchronize(device)
    return copies


def unpacked(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata that `packed` wrote.

    Raises:
        ValueError: If the content is no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    length = int.from_bytes(content[:8], "little")
    return tensors, json.loads(content[8 : 8 + length]).get("__metadata__", {})


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    try:
        if not path.is_file():  # a pipe or a device would be read without an end
            raise FileNotFoundError("there is no such file")
        return unpacked(path.read_bytes())[0]
    except (OSError, ValueError, MemoryError) as error:
        reason = str(error) or "it is larger than the memory"
        raise CheckpointError(
            f"{path} is missing or damaged ({reason}): delete it and run again"
        ) from error


def checksum_of(content: bytes) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def load_into(model: nn.Module, path: Path) -> None:
    """Load a network's parameters and buffers in place, all of them or none.

    Raises:
        CheckpointError: If the file is damaged or belongs to another network.
    """
    tensors = load_tensors(path)
    require_fit(tensors, model.state_dict(), path)
    model.load_state_dict(tensors)


def require_fit(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path | str
) -> None:
    """Check that tensors have the names and shapes that the model needs.

    Args:
        tensors: As they stand in the file.
        expected: As the model has them.
        path: The file, for the message.

    Raises:
        CheckpointError: With the first differences.
    """
    names = dict.fromkeys([*expected, *tensors])
    pairs = {name: (_shape(tensors, name), _shape(expected, name)) for name in names}
    differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if differing:
        told = [
            f"{name} is {found} in the file and {wanted} in the model"
            for name, (found, wanted) in list(differing.items())[:DIFFERENCES_TOLD]
        ]
        if len(differing) > len(told):
            told.append(f"and {len(differing) - len(told)} more")
        raise CheckpointError(f"{path} does not fit the model: {', '.join(told)}")


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(list(tensors[name].shape)) if name in tensors else "missing"
