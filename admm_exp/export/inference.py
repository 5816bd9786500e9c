"""Dense and small network in the ways that people run them, timed side by side."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from admm_exp.errors import ModelError
from admm_exp.export.onnx import missing_packages, onnx_forward, save_onnx
from admm_exp.statistics import interquartile_range

BATCHES = (1, 64)
Forward = Callable[[Tensor], object]
TakeTurns = Callable[[Mapping[str, Callable[[], object]]], Mapping[str, list[float]]]
"""Name -> what is timed, to name -> seconds a call, one number a round."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Seconds of a forward pass by network, one number a round."""

    engine: str
    batch_size: int
    seconds: Mapping[str, list[float]]

    @property
    def speed_up(self) -> float:
        """Median over the rounds of the first network's time over the last one's."""
        first, *_, last = self.seconds.values()
        return median(before / after for before, after in zip(first, last, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Medians, interquartile ranges and samples a second, as they stand in report.json."""
        numbers: dict[str, Any] = {"engine": self.engine, "batch_size": self.batch_size}
        for name, seconds in self.seconds.items():
            numbers[name] = {
                "latency_ms": 1000 * median(seconds),
                "latency_iqr_ms": 1000 * interquartile_range(seconds),
                "samples_per_second": self.batch_size / median(seconds),
            }
        return numbers | {"speed_up": self.speed_up}


def eager(network: nn.Module) -> Forward:
    """Run a network as it is written, on contiguous tensors."""
    return network.to(memory_format=torch.contiguous_format)


def channels_last(network: nn.Module) -> Forward:
    """Run a network whose convolutions keep the channels of a pixel side by side."""
    return network.to(memory_format=torch.channels_last)


def compiled(network: nn.Module) -> Forward:
    """Run a network that torch.compile has built, anew for every batch size."""
    return torch.compile(network, dynamic=False)


def in_onnx_runtime(network: nn.Module, example: Tensor) -> Forward:
    """Run a network in ONNX Runtime, on the CPU.

    Raises:
        ModelError: If it cannot be exported.
    """
    with TemporaryDirectory() as work:
        files = save_onnx(network, example, Path(work))
        if not files:
            raise ModelError("it cannot be exported")
        return onnx_forward(files[0])


def engines_for(example: Tensor) -> dict[str, Callable[[nn.Module], Forward]]:
    """Collect what runs networks on the example's device, by name."""
    engines: dict[str, Callable[[nn.Module], Forward]] = {"eager": eager}
    if example.dim() == 4:
        engines["channels last"] = channels_last
    engines["compiled"] = compiled
    if example.device.type == "cpu" and not missing_packages():
        engines["ONNX Runtime"] = partial(in_onnx_runtime, example=example)
    return engines


@torch.inference_mode()
def time_inference(
    networks: Mapping[str, nn.Module],
    example: Tensor,
    take_turns: TakeTurns,
    engines: Mapping[str, Callable[[nn.Module], Forward]],
    batch_sizes: Sequence[int] = BATCHES,
) -> list[Timing]:
    """Time networks in every engine, all of them in turns for each batch size.

    An engine that cannot run all of them is left out, with a warning.

    Args:
        networks: Name -> network, all on one device; left as they are.
        example: (1, C, H, W) on that device, repeated to fill a batch.
        take_turns: The clock.
        engines: Some of `engines_for(example)`.
        batch_sizes: Each at least 1.
    """
    torch.compiler.reset()  # or what earlier networks compiled counts against the limit of these
    prepared: dict[str, dict[str, Forward]] = {}
    for engine, prepare in engines.items():
        try:
            prepared[engine] = {n: _ready(prepare, net, example) for n, net in networks.items()}
        except Exception as error:  # a run of days is not lost because an engine is missing
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            logger.warning("inference is not timed with the engine %s: %s", engine, reason)
    timings = []
    for batch_size in batch_sizes:
        batch = example[:1].repeat(batch_size, *(1 for _ in example.shape[1:]))
        seconds = take_turns(
            {
                f"{engine}, {name}": partial(forward, batch)
                for engine, forwards in prepared.items()
                for name, forward in forwards.items()
            }
        )
        timings += [
            Timing(engine, batch_size, {name: seconds[f"{engine}, {name}"] for name in networks})
            for engine in prepared
        ]
    return timings


def _ready(prepare: Callable[[nn.Module], Forward], network: nn.Module, example: Tensor) -> Forward:
    forward = prepare(copy.deepcopy(network).eval())
    forward(example[:1])
    return forward


def inference_entry(timings: Sequence[Timing], macs_ratio: float) -> dict[str, Any]:
    """Put the timings beside the ratio of MACs, dense over small, for report.json."""
    return {"macs_ratio": macs_ratio, "timings": [timing.as_dict() for timing in timings]}
