"""Several processes for one run: the first starts or meets the others and says what to do.

`trainer.devices=N` starts N - 1 processes of the same command; `torchrun -m admm_exp` starts all.
Either way those that are not the first wait for its word: the checked settings and the folder.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from admm_exp.errors import ConfigError, ProcessError

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import PrefixStore

LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
WORK, READY = "work", "ready"
LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 20.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Child:
    """A process that the first one started, and what it complains of."""

    process: "subprocess.Popen[bytes]"
    complaints: IO[bytes]

    def fate(self) -> str | None:
        """Say how the process ended; None if it runs or ended well."""
        code = self.process.poll()
        if not code:
            return None
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        self.complaints.seek(0)
        lines = self.complaints.read().decode(errors="replace").strip().splitlines()
        return f"ended: {lines[-1].removeprefix('error: ')}" if lines else f"ended with code {code}"


@dataclass
class Team:
    """The processes of a run, as this one sees them.

    Args:
        rank: Number of this process; 0 is the first.
        world: How many there are.
        local_rank: Its number on its machine; None if it is alone.
        store: What all of them reach.
        children: Those that this one started.
    """

    rank: int = 0
    world: int = 1
    local_rank: int | None = None
    store: "PrefixStore | None" = None
    children: list[Child] = field(default_factory=list)

    @contextmanager
    def working(
        self, work: Mapping[str, Any], device: "torch.device", patience_seconds: float
    ) -> Iterator[None]:
        """Tell the others what to do and do it together with them.

        Args:
            work: What `follow` needs to know.
            device: Where this process trains.
            patience_seconds: How long a process that does not answer is waited for.

        Raises:
            ProcessError: If another process dies or does not answer.
        """
        if self.store is None:
            yield
            return
        from admm_exp.training.distribution import joined

        self.store.set(WORK, json.dumps(work))
        try:
            self._wait_until_ready(patience_seconds)
            with joined(self.rank, self.world, self.store, device, patience_seconds):
                yield
        except ProcessError as error:
            raise ProcessError(
                f"{self._who_died() or error}: go on from the last epoch with "
                f"resume={work['run_dir']}"
            ) from error

    def _wait_until_ready(self, patience_seconds: float) -> None:
        assert self.store is not None
        deadline = time.monotonic() + patience_seconds
        keys = [f"{READY}/{rank}" for rank in range(1, self.world)]
        while not self.store.check(keys):
            if time.monotonic() > deadline or any(child.fate() for child in self.children):
                raise ProcessError(f"not all {self.world} processes answer")
            time.sleep(POLL_SECONDS)

    def _who_died(self) -> str | None:
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:  # a signal is the cause of what the others complain of
            fates = {number: child.fate() for number, child in enumerate(self.children, start=2)}
            for number, fate in fates.items():
                if fate and fate.startswith("was killed"):
                    return f"process {number} of {self.world} {fate}"
            if all(fates.values()):
                break
            time.sleep(POLL_SECONDS)
        dead = (f"process {n} of {self.world} {fate}" for n, fate in fates.items() if fate)
        return next(dead, None)


@contextmanager
def leading(devices: int, is_job: bool) -> Iterator[Team]:
    """Start the other processes of a run, or meet those that torchrun started; end them after.

    Args:
        devices: How many.
        is_job: The run is a job of a sweep.

    Raises:
        ConfigError: If torchrun started another number.
    """
    if is_launched():
        world = int(os.environ["WORLD_SIZE"])
        if devices not in {1, world}:
            raise ConfigError(
                f"trainer.devices must be {world}, which is what torchrun started, or be left out, "
                f"got {devices}"
            )
        if is_job:
            raise ConfigError(
                "a sweep starts the processes of its jobs itself: run it without torchrun, with "
                f"trainer.devices={world}"
            )
        team = launched()
        try:
            yield team
        finally:
            assert team.store is not None
            team.store.set(WORK, json.dumps(None))  # for those that still wait
    elif devices == 1:
        yield Team()
    else:
        team = _started(devices)
        assert team.store is not None
        try:
            yield team
        finally:
            team.store.set(WORK, json.dumps(None))
            _end(team.children)


def is_launched() -> bool:
    """Tell whether a launcher such as torchrun started this process with others."""
    return all(name in os.environ for name in LAUNCHER) and int(os.environ["WORLD_SIZE"]) > 1


def is_follower() -> bool:
    """Tell whether another process decides what this one does."""
    return is_launched() and int(os.environ["RANK"]) > 0


def launched() -> Team:
    """Meet the processes that torchrun started with this one."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(rendezvous("env://"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    return Team(rank, world, local_rank, PrefixStore("admm_exp", store))


def usable_cores() -> int:
    """Count the processor's cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def _started(devices: int) -> Team:
    """Start the others on this machine; nothing listens beyond it."""
    import torch
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.distributed_c10d import PrefixStore

    threads = max(1, (os.cpu_count() or 1) // devices)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        store = TCPStore(
            LOOPBACK,
            port,
            devices,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
    shared = {"WORLD_SIZE": devices, "MASTER_ADDR": LOOPBACK, "MASTER_PORT": port}
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    children = []
    for rank in range(1, devices):
        own = {k: str(v) for k, v in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
        complaints = tempfile.TemporaryFile()  # noqa: SIM115  closed by _end
        process = subprocess.Popen(
            [sys.executable, "-m", "admm_exp"],
            env=environment | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
        )
        children.append(Child(process, complaints))
    return Team(0, devices, 0, PrefixStore("admm_exp", store), children)


def _end(children: list[Child]) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.complaints.close()
