"""Rows of whole training steps with data: the package's loop under the penalty, and bare loops."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch.optim import Optimizer

from admm_exp.bench.measurement import Actions, Bench, Measurement, Target
from admm_exp.bench.network import Subject, subject
from admm_exp.data.augment import Augmentation
from admm_exp.data.image_transforms import MEAN, STD
from admm_exp.data.in_memory import TensorBatches
from admm_exp.training.loop import train_epoch
from admm_exp.training.precision import Stepping
from admm_exp.training.seeding import seed_everything

PRECISION, GRAPHS, SHARE_OF_BARE = "bf16", "reduce-overhead", 0.95
LARGE, SMALL, TINY = (
    (("resnet18_32", 32, 512), ("resnet50", 224, 128)),
    ("resnet20", 32, 128),
    ("resnet20", 32, 8),
)
"""Network, image size, batch size: as GPUs train them, and for elsewhere."""
GPU_STEPS, OTHER_STEPS = 20, 2
TURN_SECONDS = 0.05


def large(device: torch.device) -> Subject:
    """Build a network that fills a GPU; elsewhere a tiny one."""
    return subject(*(LARGE[0] if device.type == "cuda" else TINY), device)


def small(device: torch.device) -> Subject:
    """Build a network whose kernels a GPU finishes sooner than they are started."""
    return subject(*(SMALL if device.type == "cuda" else TINY), device)


def n_steps(device: torch.device) -> int:
    """Tell how many steps a turn has."""
    return GPU_STEPS if device.type == "cuda" else OTHER_STEPS


def loops(bench: Bench) -> Iterator[Measurement]:
    """Measure training with data, eager and compiled, each against a bare loop of its kind."""
    seed_everything(0)  # as a job begins: with deterministic kernels
    yield _row(bench, small(bench.device), (None, "default", GRAPHS))
    for size in LARGE if bench.device.type == "cuda" else ():
        yield _row(bench, subject(*size, bench.device), (None, "default"))


def bare_loop(made: Subject, optimizer: Optimizer, stepping: Stepping, n: int) -> None:
    """Take steps as a person would write them, on the same batch, with the fastest kernels."""
    made.model.train()
    forward = stepping.forward_of(made.model)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False):
        for _ in range(n):
            optimizer.zero_grad(set_to_none=True)
            with stepping.autocast(made.images.device):
                loss = F.cross_entropy(forward(made.images), made.labels)
            loss.backward()
            optimizer.step()


def kind(mode: str | None) -> str:
    """Name what torch.compile is asked for."""
    return "eager" if mode is None else f"compile={mode}"


def _row(bench: Bench, made: Subject, modes: tuple[str | None, ...]) -> Measurement:
    n = n_steps(bench.device)
    plain, with_admm = made.optimizer(), made.optimizer()
    steppings = {kind(mode): Stepping(PRECISION, mode) for mode in modes}
    for stepping in steppings.values():
        stepping.forward_of(made.model)  # all now: it throws away what was compiled before
    actions: Actions = {}
    for name, stepping in steppings.items():
        actions[f"bare, {name}"] = partial(bare_loop, made, plain, stepping, n)
        actions[f"ADMM, {name}"] = _epoch(made, with_admm, stepping, n)
    with made.constrained.penalty(with_admm):
        row = Measurement(
            "loops",
            f"{n} training steps with data, {made.name}, {PRECISION}",
            bench.take_turns(actions, TURN_SECONDS),
        )
    return row.with_targets(
        *(
            Target(
                f"images/s of ADMM over a bare loop, {name}",
                row.median_seconds(f"bare, {name}") / row.median_seconds(f"ADMM, {name}"),
                SHARE_OF_BARE,
                is_lower_bound=True,
            )
            for name in steppings
        )
    )


def _epoch(made: Subject, optimizer: Optimizer, stepping: Stepping, n: int) -> Callable[[], object]:
    size, batch_size = made.images.shape[-1], len(made.images)
    batches = TensorBatches(
        torch.randint(256, (n * batch_size, 3, size, size), dtype=torch.uint8),
        made.labels.cpu().repeat(n),
        batch_size,
        MEAN,
        STD,
        augment=Augmentation(4, flip=True),
        shuffle=True,
    ).to(made.images.device)
    return partial(train_epoch, made.model, optimizer, batches, stepping=stepping)
