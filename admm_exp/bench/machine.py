"""What the machine can do at best: bytes and operations a second, as measured here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from admm_exp.pruning.cost.timing import take_turns

ROUNDS, TURN_SECONDS = 5, 0.1
CPU_SIDE, GPU_SIDE = 1024, 8192
CPU_MEGABYTES, GPU_MEGABYTES = 64, 1024


@dataclass(frozen=True)
class Machine:
    """Limits of a device, from large work that runs at full speed.

    Args:
        bytes_per_second: Read and written by adding one large tensor to another in place. (A third
            tensor for the sum would be fetched before it is written, which nobody would count.)
        macs_per_second: Multiply-accumulates of a matrix product.
    """

    bytes_per_second: float
    macs_per_second: float

    def seconds_for_bytes(self, n_bytes: float) -> float:
        """Time that moving so many bytes takes at least."""
        return n_bytes / self.bytes_per_second

    def seconds_for_macs(self, macs: float) -> float:
        """Time that so many multiply-accumulates take at least."""
        return macs / self.macs_per_second


def measure_machine(
    device: torch.device,
    clock: Callable[[], float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Machine:
    """Measure the limits of a device with the threads that this process uses.

    Args:
        device: What is measured.
        clock: What times are read from; None for wall time.
        dtype: Number format of the matrix product.
    """
    is_cpu = device.type == "cpu"
    side = CPU_SIDE if is_cpu else GPU_SIDE
    n = (CPU_MEGABYTES if is_cpu else GPU_MEGABYTES) * 2**20 // 4
    a, b = (torch.ones(n, device=device) for _ in range(2))
    x, y, z = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(3))
    actions = {
        "sum": partial(a.add_, b),
        "product": partial(torch.mm, x, y, out=z),
    }
    seconds = take_turns(actions, ROUNDS, TURN_SECONDS, clock)
    return Machine(3 * 4 * n / min(seconds["sum"]), side**3 / min(seconds["product"]))
