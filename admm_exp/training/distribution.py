"""Several processes that train one network: each its part of every batch, all the same weights.

Every process runs the same program with the same random numbers, except while it trains: masks of
dropout belong to samples, and no two processes have the same ones. Gradients are averaged before an
optimizer steps, losses and accuracies are summed, and the first process alone reads and writes what
is shared. With one process every function here does nothing.

Without dropout N processes give what one gives, up to the order of sums. With dropout they draw
other masks than one process does: results agree as those of two seeds do.
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore

from admm_exp.errors import ProcessError

POLL_SECONDS = 0.1


class _Team:
    """The store that the processes of a run share, and how often the first one has spoken."""

    def __init__(self) -> None:
        self.store: PrefixStore | None = None
        self.turn = 0


_team = _Team()


@contextmanager
def joined(
    rank: int, world: int, store: PrefixStore, device: torch.device, patience_seconds: float
) -> Iterator[None]:
    """Train together with the other processes as long as the body lasts.

    Args:
        rank: Number of this process; 0 is the first.
        world: How many there are.
        store: What all of them reach.
        device: Where this process trains.
        patience_seconds: How long a process that does not answer is waited for.

    Raises:
        ProcessError: If another process cannot be reached.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    _call(
        dist.init_process_group,
        backend,
        store=store,
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=patience_seconds),
    )
    _team.store, _team.turn = store, 0
    try:
        yield
    finally:
        _team.store = None
        dist.destroy_process_group()


def world_size() -> int:
    """Count the processes that train together."""
    return 1 if _team.store is None else dist.get_world_size()


def rank() -> int:
    """Tell the number of this process among them, from 0."""
    return 0 if _team.store is None else dist.get_rank()


def is_first() -> bool:
    """Tell whether this process is the one that reads and writes what is shared."""
    return rank() == 0


def from_first(compute: Callable[[], Any]) -> Any:
    """Let the first process compute a value, for as long as it takes, and give it to all.

    Args:
        compute: Returns plain data.

    Raises:
        ProcessError: If the first process has died.
    """
    if _team.store is None:
        return compute()
    _team.turn += 1
    key = f"from_first/{_team.turn}"
    if is_first():
        value = compute()
        _team.store.set(key, json.dumps(value))
        return value
    return json.loads(told(_team.store, key))


def told(store: PrefixStore, key: str) -> str:
    """Wait until another process has set a key, as long as the store lives.

    Raises:
        ProcessError: If the store's process has died.
    """
    try:
        while not store.check([key]):
            time.sleep(POLL_SECONDS)
        return store.get(key).decode()
    except RuntimeError as error:
        raise ProcessError(f"the first process has died ({_reason(error)})") from error


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Let every process draw numbers of its own from torch's generators; all go on alike after it.

    Generators of Python and NumPy are left alone.
    """
    if world_size() == 1:
        yield
        return
    common = int(torch.randint(2**32, ()))
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(common * world_size() + rank())
        yield


def summed(*values: float | Tensor) -> tuple[float, ...]:
    """Add up numbers over all processes."""
    numbers = torch.tensor([float(value) for value in values], dtype=torch.float64)
    if world_size() > 1:
        _call(dist.all_reduce, numbers)
    return tuple(numbers.tolist())


def averaged(values: Tensor) -> Tensor:
    """Average a tensor over all processes, in place where there are several."""
    if world_size() > 1:
        _call(dist.all_reduce, values)
        values /= world_size()
    return values


def gathered(values: Tensor) -> Tensor:
    """Stack the tensors of all processes, (processes, ...)."""
    parts = [torch.empty_like(values) for _ in range(world_size())]
    _call(dist.all_gather, parts, values.contiguous())
    return torch.stack(parts)


def total(values: Tensor) -> Tensor:
    """Add up a tensor over all processes."""
    values = values.contiguous().clone()
    _call(dist.all_reduce, values)
    return values


def copy_from_first_(model: nn.Module) -> None:
    """Give all processes the weights and buffers of the first, in place."""
    if world_size() > 1:
        with torch.no_grad():
            for tensor in model.state_dict().values():
                same = tensor.contiguous()
                _call(dist.broadcast, same, 0)
                tensor.copy_(same)


def require_same(what: str, value: int | list[Tensor]) -> None:
    """Check that all processes hold the same.

    Args:
        what: Names it in the message.
        value: A number, or tensors.

    Raises:
        ProcessError: If they do not.
    """
    if world_size() == 1:
        return
    if not isinstance(value, int):
        value = zlib.crc32(b"".join(tensor.cpu().numpy().tobytes() for tensor in value))
    if len(set(gathered(torch.tensor([value])).flatten().tolist())) > 1:
        raise ProcessError(f"{what} is not the same in all processes")


def _call(collective: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    with calling():
        collective(*arguments, **options)


@contextmanager
def calling() -> Iterator[None]:
    """Say in a sentence that another process does not answer.

    Raises:
        ProcessError: If a collective fails in the body.
    """
    try:
        yield
    except RuntimeError as error:
        raise ProcessError(
            f"another process has died or does not answer ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.rpartition("] ")[2][:120].rstrip(". ")
