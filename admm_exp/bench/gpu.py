"""What may cost time on a GPU, a measured ratio each: `python admm_exp/bench/gpu.py [DEVICE]`.

It needs torch and torchvision alone and prints a table; on a CPU, of tiny networks.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

if not __package__:  # run by its path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from admm_exp.bench.averaging import BEHIND, DURING, averaging
from admm_exp.bench.loops import GRAPHS, PRECISION, bare_loop, kind, large, loops, n_steps, small
from admm_exp.bench.machine import measure_machine
from admm_exp.bench.measurement import Actions, Bench, Measurement, times_seen
from admm_exp.bench.together import together
from admm_exp.errors import DeviceError
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.checkpoint import HostCopies
from admm_exp.training.device import resolve_device, use_device
from admm_exp.training.loop import evaluate
from admm_exp.training.precision import PLAIN, Stepping, use_precision

FULL, TURN_SECONDS = "float32 without TF32", 0.05
UPDATE, WAIT, MISSED = "Z and U update", "cudaStreamSynchronize", "missed"


class Row(NamedTuple):
    """A suspect, what was compared, and how it came out.

    Args:
        suspect: What may cost time, and on which work.
        compared: The two things whose ratio it is.
        ratio: As measured; None where it cannot be.
        expected: What the ratio should be.
        comment: Whether it is missed, or why there is none.
    """

    suspect: str
    compared: str
    ratio: float | None
    expected: str = "> 1"
    comment: str = ""


def evaluation(bench: Bench) -> Iterator[Row]:
    """Validate, recalibrate and look at the projection in the precision of training."""
    made = large(bench.device)
    batches = [(made.images, made.labels)] * n_steps(bench.device)

    def projected(stepping: Stepping) -> None:
        masked = made.constrained.masked()
        recalibrate_(masked, batches, stepping)
        evaluate(masked, batches, stepping)

    passes: dict[str, Callable[..., object]] = {
        "validation": partial(evaluate, made.model, batches),
        "recalibration": partial(recalibrate_, made.model, batches),
        "projected accuracy": projected,
    }
    for name, run in passes.items():
        forms = {FULL: PLAIN, PRECISION: Stepping(PRECISION)}
        turns: Actions = {form: partial(run, stepping=stepping) for form, stepping in forms.items()}
        yield _compared(_measured(bench, f"{name}, {made.name}", turns), FULL, PRECISION)


def waits(bench: Bench) -> Iterator[Row]:
    """Count how often an update of Z and U waits for the device."""
    if bench.device.type != "cuda":
        yield Row(UPDATE, WAIT, None, comment="needs a GPU: nobody waits for a CPU")
        return
    constrained = small(bench.device).constrained
    constrained.update()
    share = times_seen(WAIT, constrained.update) / len(constrained.groups)
    yield Row(UPDATE, f"{WAIT} a channel group", share, "< 2", "" if share < 2 else MISSED)


def checkpoint(bench: Bench) -> Iterator[Row]:
    """Copy a checkpoint between steps, beside them and with the device at rest."""
    made = large(bench.device)
    step = partial(bare_loop, made, made.optimizer(), Stepping(PRECISION), n_steps(bench.device))
    state = made.model.state_dict()

    def between(copy: Callable[[], object]) -> None:
        step()
        kept = copy()  # held until the device has been told what comes next
        step()
        del kept

    turns: Actions = {
        "copied at rest": lambda: between(lambda: [t.to("cpu", copy=True) for t in state.values()]),
        "copied beside steps": lambda: between(lambda: HostCopies(state)),
    }
    yield _compared(_measured(bench, f"checkpoint, {made.name}", turns), *turns)


def training(bench: Bench) -> Iterator[Row]:
    """Train with data against bare loops, eager, compiled and as CUDA graphs."""
    for row in loops(bench):
        for t in row.targets:
            yield Row(row.title, t.what, t.value, f">= {t.bound}", "" if t.is_met else MISSED)
        for mode in ("default", GRAPHS):
            if (faster := f"ADMM, {kind(mode)}") in row.seconds:
                yield _compared(row, "ADMM, eager", faster)


def processes(bench: Bench) -> Iterator[Row]:
    """Average gradients of two processes; train several jobs on one device."""
    found = [_compared(row, BEHIND, DURING) for row in averaging(bench)]
    yield from found or [Row("gradients averaged", "", None, comment="needs two GPUs")]
    for row in together(bench):
        yield from (_compared(row, next(iter(row.seconds)), v) for v in list(row.seconds)[1:])


def _compared(row: Measurement, slower: str, faster: str) -> Row:
    gain = row.median_seconds(slower) / row.median_seconds(faster)
    return Row(row.title, f"{faster}, against {slower}", gain, comment="" if gain > 1 else MISSED)


def _measured(bench: Bench, title: str, turns: Actions) -> Measurement:
    return Measurement("gpu", title, bench.take_turns(turns, TURN_SECONDS))


def main(device_name: str = "auto") -> None:
    """Print the table, headed by the name of the card."""
    device = resolve_device(device_name)
    use_device(device)
    use_precision("float32", device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(f"{card}, torch {torch.__version__}, times as fast unless it says otherwise\n")
    print("| suspect | compared | ratio | expected | |\n|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        bench = Bench(False, device, Path(folder), measure_machine(device))
        for measure in (evaluation, waits, checkpoint, training, processes):
            for row in measure(bench):
                ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
                print("|", " | ".join([*row[:2], ratio, *row[3:]]), "|", flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except DeviceError as error:
        sys.exit(f"error: {error}")
