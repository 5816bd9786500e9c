"""Rows for a GPU: images a second against a bare loop, at the sizes that GPUs train.

`python -m admm_exp.bench.gpu [DEVICE]` measures them, several jobs on one device, the Z and U
update and a pass of evaluation, on a machine with torch and torchvision alone, and prints a JSON
object a line.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim import Optimizer

from admm_exp.bench.machine import measure_machine
from admm_exp.bench.measurement import Actions, Bench, Measurement, Target
from admm_exp.bench.network import Subject, subject
from admm_exp.bench.step import evaluation
from admm_exp.bench.together import together
from admm_exp.bench.update import updates
from admm_exp.data.augment import Augmentation
from admm_exp.data.image_transforms import MEAN, STD
from admm_exp.data.in_memory import TensorBatches
from admm_exp.experiment.environment import describe_environment
from admm_exp.training.device import resolve_device, use_device
from admm_exp.training.loop import cross_entropy, train_epoch
from admm_exp.training.precision import Forward, Stepping, use_precision
from admm_exp.training.seeding import seed_everything

ON_GPU, GPU_STEPS = (("resnet18_32", 32, 512), ("resnet50", 224, 128)), 20
ELSEWHERE, OTHER_STEPS = (("resnet20", 32, 8),), 2
SHARE_OF_BARE = 0.95
Autocast = Callable[[], AbstractContextManager[object]]
COMPILED_BARE, COMPILED = "bare loop, compiled", "ADMM, compiled"
TURN_SECONDS = 0.05


def gpu(bench: Bench) -> Iterator[Measurement]:
    """Measure whole training steps with data, in bfloat16 on a GPU; elsewhere in a tiny form."""
    is_gpu = bench.device.type == "cuda"
    precision, dtype = ("bf16", torch.bfloat16) if is_gpu else ("float32", torch.float32)
    machine = measure_machine(bench.device, bench.clock, dtype)
    n_steps = GPU_STEPS if is_gpu else OTHER_STEPS
    seed_everything(0)  # as a job begins: with deterministic kernels
    for name, size, batch_size in ON_GPU if is_gpu else ELSEWHERE:
        made = subject(name, size, batch_size, bench.device)
        row = Measurement(
            f"gpu_{name}",
            f"{n_steps} training steps with data, {made.name}, {precision}",
            _take_turns(bench, made, Stepping(precision), Stepping(precision, "default"), n_steps),
            machine.seconds_for_macs(3 * made.macs * batch_size * n_steps),
            "multiply-accumulates of forward and backward pass",
            batch_size * n_steps,
        )
        pairs = [("plain", "bare loop"), ("ADMM", "bare loop"), (COMPILED, COMPILED_BARE)]
        yield row.with_targets(
            *(
                Target(
                    f"{variant}, images/s over {bare}",
                    row.median_seconds(bare) / row.median_seconds(variant),
                    SHARE_OF_BARE,
                    True,
                )
                for variant, bare in pairs
                if variant in row.seconds
            )
        )


def _take_turns(
    bench: Bench, made: Subject, stepping: Stepping, compiled: Stepping, n_steps: int
) -> dict[str, list[float]]:
    size, n_images = made.images.shape[-1], n_steps * len(made.images)
    batches = TensorBatches(
        torch.randint(256, (n_images, 3, size, size), dtype=torch.uint8),
        made.labels.cpu().repeat(n_steps),
        len(made.images),
        MEAN,
        STD,
        augment=Augmentation(4, flip=True),
        shuffle=True,
    ).to(bench.device)
    plain, with_admm = made.optimizer(), made.optimizer()
    autocast = partial(stepping.autocast, bench.device)
    epoch = partial(train_epoch, made.model, batches=batches, loss_fn=cross_entropy)
    actions: Actions = {
        "bare loop": partial(_bare_loop, made, plain, autocast, n_steps),
        "plain": partial(epoch, plain, stepping=stepping),
        "ADMM": partial(epoch, with_admm, stepping=stepping),
    }
    if bench.device.type == "cuda":
        actions[COMPILED_BARE] = partial(
            _bare_loop, made, plain, autocast, n_steps, torch.compile(made.model)
        )
        actions[COMPILED] = partial(epoch, with_admm, stepping=compiled)
    with made.constrained.penalty(with_admm):
        return bench.take_turns(actions, TURN_SECONDS)


def _bare_loop(
    made: Subject,
    optimizer: Optimizer,
    autocast: Autocast,
    n_steps: int,
    forward: Forward | None = None,
) -> None:
    """What a person would write in ten lines, on the same batch, with the fastest kernels."""
    made.model.train()
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False):
        for _ in range(n_steps):
            optimizer.zero_grad(set_to_none=True)
            with autocast():
                loss = F.cross_entropy((forward or made.model)(made.images), made.labels)
            loss.backward()
            optimizer.step()


def main(device_name: str = "auto") -> None:
    """Measure the rows for a GPU without what a terminal, figures and settings need."""
    device = resolve_device(device_name)
    use_device(device)
    use_precision("float32", device)
    machine = measure_machine(device)
    print(json.dumps(describe_environment(device) | {"machine": vars(machine)}), flush=True)
    bench = Bench(False, device, Path(), machine)
    for measure in (gpu, together, updates, evaluation):
        for row in measure(bench):
            print(json.dumps(row.as_dict()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
