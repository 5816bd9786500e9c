"""The small network on disk: runnable without this package, and reloadable for training."""

import copy
import importlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import CheckpointError, ModelError
from admm_exp.export.program import exported
from admm_exp.pruning.dependency.attention import fit_attention_, fit_encoders_
from admm_exp.pruning.dependency.norms import COUNTED, count_channels_, counted_channels
from admm_exp.pruning.dependency.sizes import readable, remembered, set_size_
from admm_exp.pruning.dependency.structures import tensors_in
from admm_exp.results import LAYERS, PROGRAM, STRUCTURE, WEIGHTS, read_json, write_atomically
from admm_exp.training.checkpoint import (
    checksum_of,
    load_tensors,
    save_tensors,
)

logger = logging.getLogger(__name__)
OWN_MODELS = "admm_exp.models."
UNTRAINED = {"weights": None, "pretrained": False}
"""Arguments of builders that load weights, which the run's own overwrite."""


def save_model(
    small: nn.Module, dense: nn.Module, builder: Mapping[str, Any], example: Any, folder: Path
) -> list[Path]:
    """Write the cut network as a program and as structure plus weights, neither with pickle.

    Args:
        small: The cut network, on the CPU.
        dense: The network it was cut from.
        builder: What built the dense network: `_target_` and its arguments.
        example: (B, C, H, W), or other inputs that the network accepts.
        folder: Where the files go; the layers.yaml that is there gets a checksum too.

    Returns:
        Paths of the files written: model.json, model.safetensors and, where torch.export can
        follow the network, model.pt2.
    """
    structure = {
        "builder": dict(builder),
        "attributes": _changed_attributes(_rebuilt(builder, dense), small),
        "counted_channels": counted_channels(small),
        "buffers": _cut_buffers(dense, small),
        "input_shape": _shape_of(example),
    }
    save_tensors(folder / WEIGHTS, small.state_dict())
    present = [name for name in (WEIGHTS, LAYERS) if (folder / name).exists()]
    checksums = {name: checksum_of((folder / name).read_bytes()) for name in present}
    checksums[STRUCTURE] = _checksum_of_structure(structure)
    structure["checksums"] = checksums
    write_atomically(folder / STRUCTURE, json.dumps(structure, indent=2).encode())
    written = [folder / STRUCTURE, folder / WEIGHTS]
    try:
        program = exported(small, builder, example)
    except Exception as error:  # a run of days is not lost because a network cannot be exported
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning(
            "%s was not written, torch.export cannot follow the network (%s); %s holds its weights",
            PROGRAM,
            reason,
            WEIGHTS,
        )
    else:
        write_atomically(folder / PROGRAM, program)
        written.append(folder / PROGRAM)
    return written


def load(run_dir: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Rebuild the small network of a run, ready to be trained further.

    Args:
        run_dir: Folder of a run.
        model: The dense network the run started from, freshly built; needed only for networks
            that are not this package's own, because nothing named in a file is executed.

    Returns:
        The small network with its weights, in training mode.

    Raises:
        CheckpointError: If the files are missing or damaged.
        ModelError: If the network is not this package's own and no model was given.

    Examples:
        >>> import admm_exp
        >>> network = admm_exp.load(run_dir).eval()
        >>> network(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 10])
    """
    folder = Path(run_dir)
    try:
        structure = read_json(folder / STRUCTURE)
        builder, attributes = dict(structure["builder"]), dict(structure["attributes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / STRUCTURE} is missing or damaged ({error})") from error
    tensors = load_tensors(folder / WEIGHTS)
    network = copy.deepcopy(model) if model is not None else _build(builder)
    try:
        _resize_(network, attributes, tensors)
        _count_(network, structure.get("counted_channels", {}))
        _set_buffers_(network, structure.get("buffers", {}))
        network.load_state_dict(tensors)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{folder} does not fit the model it was cut from: {reason}") from (
            error
        )
    _require_checksums(structure, folder)
    return network.train()


def _require_checksums(structure: Mapping[str, Any], folder: Path) -> None:
    """Check that a run's files are as they were written; runs of earlier versions say nothing.

    Raises:
        CheckpointError: If one is not.
    """
    known = structure.get("checksums")
    if known is None:
        return
    rest = {key: value for key, value in structure.items() if key != "checksums"}
    found = {STRUCTURE: _checksum_of_structure(rest)}
    found |= {
        name: checksum_of(_read(folder / name))
        for name in (WEIGHTS, LAYERS)
        if (folder / name).is_file()
    }
    for name, checksum in found.items():
        if not isinstance(known, dict) or known.get(name) != checksum:
            raise CheckpointError(
                f"{folder / name} is damaged: it is not what the run wrote, whose checksum stands "
                f"in {STRUCTURE}"
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read ({error or 'too large'})") from error


def _checksum_of_structure(structure: Mapping[str, Any]) -> str:
    return checksum_of(json.dumps(structure, sort_keys=True).encode())


def _rebuilt(builder: Mapping[str, Any], dense: nn.Module) -> nn.Module:
    """What `load` starts from; torchvision sets `transform_input` of pretrained networks alone."""
    is_own = str(builder.get("_target_", "")).startswith(OWN_MODELS)
    is_pretrained = any(builder.get(key) for key in UNTRAINED)
    return _build(dict(builder)) if is_own and is_pretrained else dense


def _shape_of(example: Any) -> list[Any]:
    """Shape of one sample; those of all tensors of inputs that are none."""
    if isinstance(example, Tensor):
        return list(example.shape[1:])
    return [list(tensor.shape) for tensor in tensors_in(example)]


def _changed_attributes(dense: nn.Module, small: nn.Module) -> dict[str, dict[str, Any]]:
    before = dict(dense.named_modules())
    changed = {}
    for name, module in small.named_modules():
        values: dict[str, Any] = {
            key: value
            for key, value in vars(module).items()
            if _is_size(value) and key != "training" and vars(before[name]).get(key) != value
        }
        known = dict(remembered(before[name]))
        values |= {
            path: size
            for path, size in remembered(module)
            if "." in path and path.partition(".")[0] not in values and known.get(path) != size
        }
        if values:
            changed[name] = values
    return changed


def _cut_buffers(dense: nn.Module, small: nn.Module) -> dict[str, dict[str, Any]]:
    """List the buffers that lost channels and that no state dict holds, with their numbers."""
    before, saved = dict(dense.named_buffers()), small.state_dict()
    return {
        name: {"dtype": str(buffer.dtype)[6:], "shape": [*buffer.shape], "values": _listed(buffer)}
        for name, buffer in small.named_buffers()
        if name not in saved and name in before and buffer.shape != before[name].shape
    }


def _listed(tensor: Tensor) -> list[float]:
    return tensor.detach().cpu().flatten().tolist()


def _set_buffers_(network: nn.Module, buffers: Mapping[str, Mapping[str, Any]]) -> None:
    for name, told in buffers.items():
        path, _, leaf = name.rpartition(".")
        module = network.get_submodule(path)
        old = module._buffers.get(leaf)
        if old is None or str(old.dtype)[6:] != told["dtype"]:
            raise AttributeError(f"{name} is no buffer of type {told['dtype']}")
        values = torch.tensor(told["values"], dtype=old.dtype, device=old.device)
        module._buffers[leaf] = values.view(told["shape"])


def _is_size(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_size(item) for item in value)
    return isinstance(value, int)


def _build(builder: dict[str, Any]) -> nn.Module:
    target = str(builder.pop("_target_", ""))
    module, _, function = target.rpartition(".")
    if not module.startswith(OWN_MODELS) or function.startswith("_"):
        raise ModelError(
            f"the run's network comes from {target or 'elsewhere'}: build it and pass it, "
            f"load(run_dir, model=YourNetwork())"
        )
    builder |= {key: value for key, value in UNTRAINED.items() if key in builder}
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{STRUCTURE} does not name a network: {error}") from error
    if not callable(build) or getattr(build, "__module__", None) != module:
        raise CheckpointError(f"{STRUCTURE} does not name a network: {target} is none of ours")
    try:
        network = build(**builder)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{STRUCTURE} does not fit {target}: {error}") from error
    if not isinstance(network, nn.Module):
        raise CheckpointError(f"{STRUCTURE} does not name a network: {target}")
    return network


def _resize_(
    network: nn.Module, attributes: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    for name, values in attributes.items():
        module = network.get_submodule(name)
        for key, value in values.items():
            if "." in key:
                _set_inside_(module, name, key, value)
                continue
            own = vars(module).get(key, readable(module).get(key))
            size = type(own)(value) if isinstance(own, tuple | list) else value
            if not (_is_size(own) and _is_size(size)):
                raise AttributeError(f"{name} has no size {key} = {value!r}")
            setattr(module, key, size)
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        module = network.get_submodule(path)
        if leaf in module._parameters:
            module._parameters[leaf] = nn.Parameter(torch.empty_like(tensor))
        elif leaf in module._buffers:
            module._buffers[leaf] = torch.empty_like(tensor)
    fit_attention_(network)


def _set_inside_(module: nn.Module, name: str, path: str, value: Any) -> None:
    """Set a size that a dict or an object among the attributes of a module holds."""
    if path not in dict(remembered(module)) or type(value) is not int:
        raise AttributeError(f"{name} has no size {path} = {value!r}")
    set_size_(module, path, value)


def _count_(network: nn.Module, counted: Mapping[str, Mapping[str, int]]) -> None:
    for name, counts in counted.items():
        for key, n in counts.items():
            if key.partition(" ")[0] not in COUNTED or type(n) is not int or n < 1:
                raise AttributeError(f"{name} cannot count {key} = {n!r}")
        count_channels_(network.get_submodule(name), counts)
    fit_encoders_(network)
