"""Rows about what the cut buys: dense and small network side by side."""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from admm_exp.bench.network import subject
from admm_exp.bench.row import Bench, Row
from admm_exp.onnx_file import missing_packages, onnx_forward, save_onnx
from admm_exp.pruning.cost import count_cost

BATCHES = (1, 64)
TURN_SECONDS = 0.05
Forward = Callable[[Tensor], object]


def inference(bench: Bench) -> Iterator[Row]:
    """Measure forward passes of ResNet-20 and of what half of its channels leave."""
    made = subject("resnet20", 32, max(BATCHES), bench.device)
    small, _ = made.constrained.cut(made.images[:2])
    networks = {"dense": made.model.eval(), "small": small.eval()}
    macs = {name: count_cost(network, made.images).macs for name, network in networks.items()}
    for batch_size in BATCHES:
        images = made.images[:batch_size].contiguous()
        forwards = _forwards(networks, images, bench)
        with torch.inference_mode():
            passes = {name: partial(forward, images) for name, forward in forwards.items()}
            seconds = bench.take_turns(passes, TURN_SECONDS)
        row = Row(
            f"inference_{batch_size}",
            f"a forward pass, resnet20, 32x32, batch {batch_size}",
            seconds,
            bench.machine.seconds_for_macs(batch_size * macs["small"]),
            "multiply-accumulates of the small network",
            batch_size,
            notes={"MACs, dense over small": macs["dense"] / macs["small"]},
        )
        yield row.with_notes(_speed_ups(row))


def _forwards(
    networks: Mapping[str, nn.Module], images: Tensor, bench: Bench
) -> dict[str, Forward]:
    """Run every network every way; networks are named dense and small."""
    engines: dict[str, Callable[[nn.Module], Forward]] = {
        "eager": lambda network: network.to(memory_format=torch.contiguous_format),
        "channels last": lambda network: network.to(memory_format=torch.channels_last),
    }
    if not bench.is_quick:
        engines["compiled"] = torch.compile
        if bench.device.type == "cpu" and not missing_packages():
            engines["ONNX Runtime"] = partial(_in_onnx_runtime, images, bench.folder)
    return {
        f"{engine}, {name}": prepare(copy.deepcopy(network))
        for engine, prepare in engines.items()
        for name, network in networks.items()
    }


def _in_onnx_runtime(images: Tensor, folder: Path, network: nn.Module) -> Forward:
    (path,) = save_onnx(network, images, folder)
    return onnx_forward(path)


def _speed_ups(row: Row) -> dict[str, float]:
    engines = dict.fromkeys(variant.partition(", ")[0] for variant in row.seconds)
    return {
        f"speed-up, {engine}": row.median_seconds(f"{engine}, dense")
        / row.median_seconds(f"{engine}, small")
        for engine in engines
    }
