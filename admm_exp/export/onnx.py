"""The small network as an ONNX file, checked against the network it came from."""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import ConfigError, ModelError
from admm_exp.results import ONNX

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
CHECKED_BATCHES = (1, 3)

logger = logging.getLogger(__name__)


def missing_packages() -> list[str]:
    """List the packages of the extra `export` that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def require_onnx(setting: str, instead: str) -> None:
    """Check that the packages of the extra `export` are there.

    Args:
        setting: What needs them.
        instead: What does not.

    Raises:
        ConfigError: If one is missing.
    """
    if missing := missing_packages():
        raise ConfigError(
            f"{setting} needs {', '.join(missing)}: run pip install 'admm-exp[export]', "
            f"or set {instead}"
        )


def save_onnx(network: nn.Module, example: Any, folder: Path) -> list[Path]:
    """Write model.onnx, with a free batch size, once ONNX Runtime agrees with the network.

    Args:
        network: On the CPU; left as it is.
        example: (B, C, H, W) input that the network accepts; another one cannot be exported.
        folder: Where the file goes.

    Returns:
        The file; nothing, and a warning, where the network cannot be exported or computes something
        else there.
    """
    evaluated = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)
    try:
        if not isinstance(example, Tensor):
            raise ModelError(f"it takes a {type(example).__name__}, not a single tensor")
        with TemporaryDirectory(dir=folder) as work:
            written = Path(work) / ONNX
            _export(evaluated, example, written)
            _check(evaluated, example, written)
            written.replace(folder / ONNX)
    except Exception as error:  # a run of days is not lost because a network cannot be exported
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning("%s was not written: %s", ONNX, reason)
        return []
    return [folder / ONNX]


def onnx_forward(path: Path) -> Callable[[Tensor], Tensor]:
    """Load an ONNX file into ONNX Runtime, on the CPU with the threads that torch uses.

    Returns:
        (B, C, H, W) float32 on the CPU -> the network's output.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()

    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {source.name: images.numpy()})[0])

    return forward


def _export(network: nn.Module, example: Tensor, path: Path) -> None:
    batch = example[:1].expand(2, *example.shape[1:]).contiguous()
    with warnings.catch_warnings(action="ignore"):  # its own use of what is deprecated
        torch.onnx.export(
            network,
            (batch,),
            path,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )


def _check(network: nn.Module, example: Tensor, path: Path) -> None:
    forward = onnx_forward(path)
    generator = torch.Generator().manual_seed(0)
    for n_samples in CHECKED_BATCHES:
        images = torch.randn(n_samples, *example.shape[1:], generator=generator)
        with torch.inference_mode():
            expected = network(images)
        difference = float((forward(images) - expected).abs().max())
        if not difference <= TOLERANCE * (1.0 + float(expected.abs().max())):
            raise ModelError(f"ONNX Runtime differs from torch by {difference:.1e}")
