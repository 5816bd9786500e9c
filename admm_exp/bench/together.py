"""Several jobs of a sweep on one device: in turn, stacked into one, processes at once."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.optim import Optimizer

from admm_exp.bench.measurement import Actions, Bench, Measurement
from admm_exp.bench.network import Subject, optimizer_of, subject
from admm_exp.training.device import use_device
from admm_exp.training.loop import train_epoch
from admm_exp.training.precision import use_precision

NETWORK, SIZE = "resnet20", 32
GPU_WORK, OTHER_WORK = (4, 128, 20), (2, 8, 1)
"""Jobs, batch size of each, and steps."""
TURN_SECONDS = 0.05


def together(bench: Bench) -> Iterator[Measurement]:
    """Measure training steps of several networks, each on batches of its own."""
    n_jobs, batch_size, n_steps = GPU_WORK if bench.device.type == "cuda" else OTHER_WORK
    jobs = [subject(NETWORK, SIZE, batch_size, bench.device) for _ in range(n_jobs)]
    optimizers = [job.optimizer() for job in jobs]
    stacked = Stacked([job.model for job in jobs])
    images, labels = (torch.stack([getattr(job, k) for job in jobs]) for k in ("images", "labels"))

    def in_turn() -> None:
        for job, optimizer in zip(jobs, optimizers, strict=True):
            _train(job, optimizer, n_steps)

    def as_one() -> None:
        for _ in range(n_steps):
            stacked.step(images, labels)

    with _processes(n_jobs, batch_size, n_steps, bench.device) as at_once:
        actions: Actions = {
            "in turn": in_turn,
            "stacked (torch.func)": as_one,
            "processes at once": at_once,
        }
        yield Measurement(
            "together",
            f"{n_jobs} jobs, {n_steps} steps each, {jobs[0].name}",
            bench.take_turns(actions, TURN_SECONDS),
            bench.machine.seconds_for_macs(3 * jobs[0].macs * batch_size * n_steps * n_jobs),
            "multiply-accumulates of forward and backward pass",
            batch_size * n_steps * n_jobs,
        )


class Stacked:
    """Networks of one architecture trained as one, with a leading dimension for the network.

    Args:
        networks: Copied, buffers of batch norms included.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        # on a GPU vmap knows no batch norm of channels-last tensors
        plain = [copy.deepcopy(n).to(memory_format=torch.contiguous_format) for n in networks]
        self.parameters, self.buffers = stack_module_state(plain)
        self.optimizer = optimizer_of(self.parameters.values())
        shell = copy.deepcopy(networks[0]).train().to("meta")

        def loss(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            images: Tensor,
            labels: Tensor,
        ) -> Tensor:
            logits = functional_call(shell, (parameters, buffers), (images,))
            return F.cross_entropy(logits, labels)

        self._gradients = vmap(grad(loss))

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take a step of every network.

        Args:
            images: (K, B, C, H, W), a batch for each of K networks.
            labels: (K, B).
        """
        gradients = self._gradients(self.parameters, self.buffers, images, labels)
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name]
        self.optimizer.step()


def _train(job: Subject, optimizer: Optimizer, n_steps: int) -> None:
    train_epoch(job.model, optimizer, [(job.images, job.labels)] * n_steps)


@contextmanager
def _processes(
    n_jobs: int, batch_size: int, n_steps: int, device: torch.device
) -> Iterator[Callable[[], None]]:
    """Start processes that train whenever they are told to; yield what tells them and waits."""
    context = get_context("spawn")
    ends: list[Connection] = []
    processes = []
    for _ in range(n_jobs):
        here, there = context.Pipe()
        arguments = (there, batch_size, n_steps, str(device))
        processes.append(context.Process(target=_work, args=arguments, daemon=True))
        processes[-1].start()
        there.close()
        ends.append(here)

    def answers() -> list[Any]:
        return [end.recv() for end in ends]

    def at_once() -> None:
        for end in ends:
            end.send(True)
        answers()

    try:
        answers()
        yield at_once
    finally:
        for end, process in zip(ends, processes, strict=True):
            end.close()
            process.join()


def _work(commands: Connection, batch_size: int, n_steps: int, device_name: str) -> None:
    """Train whenever something is received, until the other end closes."""
    device = torch.device(device_name)
    torch.set_num_threads(1)
    use_device(device)
    use_precision("float32", device)
    job = subject(NETWORK, SIZE, batch_size, device)
    optimizer = job.optimizer()
    try:
        while True:
            commands.send(True)
            commands.recv()
            _train(job, optimizer, n_steps)  # reads the losses, so that the device is done
    except (EOFError, BrokenPipeError):
        return
