"""Rows about what the cut buys: dense and small network side by side."""

from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor, nn

from admm_exp.bench.measurement import Bench, Measurement
from admm_exp.bench.network import subject
from admm_exp.export.inference import engines_for, time_inference
from admm_exp.pruning.cost.cost import count_cost

QUICK_ENGINES = ("eager", "channels last")
MULTIPLES = (1, 8)
ODD_SPARSITY = 0.45
"""Leaves 9, 18 and 36 of 16, 32 and 64 channels, or 8, 16 and 40 in multiples of 8."""
TURN_SECONDS = 0.05


def inference(bench: Bench) -> Iterator[Measurement]:
    """Measure forward passes of ResNet-20 and of what half of its channels leave."""
    made = subject("resnet20", 32, 2, bench.device)
    small, _ = made.constrained.removal().finish(made.images)
    networks = {"dense": made.model, "small": small}
    yield from _rows(bench, "inference", "resnet20", networks, made.images)


def multiples(bench: Bench) -> Iterator[Measurement]:
    """Measure what ResNet-20 keeps at the same sparsity, rounded to a channel_multiple or not."""
    subjects = {
        f"multiple {multiple}": subject(
            "resnet20", 32, 2, bench.device, sparsity=ODD_SPARSITY, channel_multiple=multiple
        )
        for multiple in MULTIPLES
    }
    networks = {
        name: made.constrained.removal().finish(made.images)[0] for name, made in subjects.items()
    }
    images = subjects[f"multiple {MULTIPLES[0]}"].images
    title = f"resnet20 without {ODD_SPARSITY:.0%} of its channels"
    yield from _rows(bench, "multiple", title, networks, images)


def _rows(
    bench: Bench, name: str, title: str, networks: Mapping[str, nn.Module], images: Tensor
) -> Iterator[Measurement]:
    """Time networks in all engines: a row a batch size, first network over last in its notes."""
    macs = {network: count_cost(module, images).macs for network, module in networks.items()}
    engines = engines_for(images)
    if bench.is_quick:
        engines = {engine: engines[engine] for engine in QUICK_ENGINES}
    clock = partial(bench.take_turns, turn_seconds=TURN_SECONDS)
    timings = time_inference(networks, images, clock, engines)
    (first, *_, last) = networks
    for batch_size in dict.fromkeys(timing.batch_size for timing in timings):
        mine = [timing for timing in timings if timing.batch_size == batch_size]
        yield Measurement(
            f"{name}_{batch_size}",
            f"a forward pass, {title}, 32x32, batch {batch_size}",
            {f"{t.engine}, {network}": s for t in mine for network, s in t.seconds.items()},
            bench.machine.seconds_for_macs(batch_size * macs[last]),
            f"multiply-accumulates, {last}",
            batch_size,
            notes={
                f"MACs, {first} over {last}": macs[first] / macs[last],
                **{f"speed-up, {timing.engine}": timing.speed_up for timing in mine},
            },
        )
