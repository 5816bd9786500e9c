"""Checkpoints after every epoch, and the way back to one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.admm.state import State, from_tensors, to_tensors
from admm_exp.errors import CheckpointError
from admm_exp.phases.background_write import BackgroundWrite
from admm_exp.phases.observers import Observer
from admm_exp.phases.progress import LivePhase, PhaseLog, Progress
from admm_exp.phases.snapshot import Snapshot, clear, header_of, write_packed
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import EpochRecord, IterationRecord, PhaseResult
from admm_exp.training.checkpoint import HostCopies, require_fit
from admm_exp.training.distribution import is_first
from admm_exp.training.precision import restore_scaler, scaler_state
from admm_exp.training.seeding import restore_rng_state, rng_state
from admm_exp.training.step_rates import watch_steps


class Checkpoints(Progress):
    """Progress that is kept on disk; it watches the run and tells the other observers first.

    The order of the data is a function of seed and epoch, so the state between two epochs is all
    there is. A checkpoint holds the networks of all phases so far: each file is enough. It is
    written while the next epoch trains, from copies of what the epoch before left.

    Args:
        folder: Where the checkpoints go.
        origin: What the run depends on.
        observer: Who else sees the run.
        earlier: Where an earlier process stopped; None begins anew and removes old checkpoints.
    """

    def __init__(
        self, folder: Path, origin: Mapping[str, str], observer: Observer, earlier: Snapshot | None
    ) -> None:
        self._folder = folder
        self._origin = origin
        self._observer = observer
        self._earlier = earlier or Snapshot(0, origin, {}, {})
        self._number = self._earlier.number
        self._logs: dict[str, PhaseLog] = {}
        self._over: dict[str, Tensor] = {}
        self._live: LivePhase | None = None
        self._phase = ""
        self._start = perf_counter()
        self._steps = 0
        self._warned = False
        self._writing = BackgroundWrite()
        if earlier is None and is_first():
            clear(folder)

    def __enter__(self) -> Self:
        """Train inside the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no write under way, however training ended."""
        self.wait()

    def begin(self, live: LivePhase) -> PhaseLog:
        """Bring everything to where the phase stopped, and keep it from now on after every epoch.

        Raises:
            CheckpointError: If what was kept does not fit the network.
        """
        self._live, self._steps = live, 0
        phase, model, optimizer = live.name, live.model, live.optimizer
        watch_steps(optimizer, self._count_step)
        log = self._earlier.logs.get(phase)
        if log is None or not log.epochs:
            return PhaseLog()
        self._logs[phase].seconds = log.seconds
        self._logs[phase].steps_per_epoch = log.steps_per_epoch
        source = f"the checkpoint in {self._folder}"
        weights = self._earlier.part(phase, "model")
        require_fit(weights, model.state_dict(), source)
        model.load_state_dict(weights)
        if live.constrained is not None:
            live.constrained.state = _state(
                live.constrained.state, self._earlier.part(phase, "state"), source
            )
        if log.result is None:
            _load_optimizer_(optimizer, self._earlier.part(phase, "optimizer"), source)
        try:
            restore_scaler(optimizer, self._earlier.part(phase, "scaler"))
            restore_rng_state(self._earlier.part(phase, "rng"))
        except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{source} holds no state of the generators: {error}") from error
        return log

    def keep(self, phase: str, model: nn.Module) -> None:
        """Remember the network of a phase that trained nothing."""
        self._over |= _copied(self._tensors(model, None, None))

    def has_begun(self, phase: str) -> bool:
        """Tell whether an earlier process worked on the phase."""
        return phase in self._earlier.logs

    def settle(self, phase: str, choose: Callable[[], Any]) -> Any:
        """Take the choice that an earlier process trained with, or choose and remember it."""
        log = self._logs[phase]
        log.choice = self._earlier.logs.get(phase, log).choice
        if log.choice is None:
            log.choice = choose()
        return log.choice

    def phase_started(self, name: str, epochs: int) -> None:
        """Begin a phase's log."""
        self._phase, self._start, self._live = name, perf_counter(), None
        self._logs[name] = PhaseLog()
        self._observer.phase_started(name, epochs)

    def epoch_finished(self, record: EpochRecord) -> None:
        """Write a checkpoint, unless the epoch is told again."""
        self._observer.epoch_finished(record)
        log = self._logs[self._phase]
        log.epochs.append(record)
        earlier = self._earlier.logs.get(self._phase, PhaseLog())
        if self._live is not None and len(log.epochs) > len(earlier.epochs):
            self._write(self._live)

    def iteration_finished(self, record: IterationRecord) -> None:
        """Remember an iteration; the next epoch's checkpoint holds what it changed."""
        self._observer.iteration_finished(record)
        self._logs[self._phase].iterations.append(record)

    def phase_finished(self, result: PhaseResult) -> None:
        """Remember how a phase ended, with the time of all processes that worked on it."""
        log = self._logs[self._phase]
        whole = replace(result, seconds=log.seconds + perf_counter() - self._start)
        if self.has_begun(self._phase):
            whole = self._earlier.logs[self._phase].result or whole
        log.result = whole
        log.seconds = whole.seconds
        self.wait()
        if self._live is not None:
            over = self._tensors(self._live.model, None, self._live.constrained)
            self._over |= _copied(over)
            self._live = None
        self._observer.phase_finished(whole)

    def warned(self, message: str) -> None:
        """Remember a warning of the phase."""
        self._observer.warned(message)
        if self._phase in self._logs:
            self._logs[self._phase].warnings.append(message)

    def _write(self, live: LivePhase) -> None:
        self._number += 1
        log, now = self._logs[self._phase], perf_counter()
        log.seconds, self._start = log.seconds + now - self._start, now
        log.steps_per_epoch, self._steps = self._steps, 0
        if not is_first():
            return
        self.wait()
        tensors = self._tensors(live.model, live.optimizer, live.constrained)
        snapshot = Snapshot(self._number, self._origin, self._logs, self._over)
        header, copies, over = header_of(snapshot), HostCopies(tensors), dict(self._over)
        self._writing.start(
            lambda: write_packed(self._folder, snapshot.number, over | copies.tensors(), header)
        )

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk; a disk that takes none is told once."""
        error = self._writing.failure()
        if error is not None and not self._warned:
            self._warned = True
            self._observer.warned(
                f"no checkpoint can be written to {self._folder} ({error.strerror or error}): "
                f"training goes on, but what follows is lost if it stops"
            )

    def _count_step(self) -> None:
        self._steps += 1

    def _tensors(
        self, model: nn.Module, optimizer: Optimizer | None, constrained: ConstrainedModel | None
    ) -> dict[str, Tensor]:
        parts: dict[str, Mapping[str, Tensor]] = {
            "model": model.state_dict(),
            "optimizer": {} if optimizer is None else _optimizer_tensors(optimizer),
            "scaler": {} if optimizer is None else scaler_state(optimizer),
            "state": {} if constrained is None else to_tensors(constrained.state),
            "rng": rng_state(),
        }
        return {
            f"{self._phase}/{kind}/{name}": tensor
            for kind, part in parts.items()
            for name, tensor in part.items()
        }


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _state(live: State, saved: Mapping[str, Tensor], source: str) -> State:
    expected = to_tensors(live)
    require_fit(saved, expected, source)
    return from_tensors({name: _like(expected[name], value) for name, value in saved.items()})


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Name what an optimizer remembers; its settings come from the configuration."""
    return {
        f"{index}.{name}": value
        for index, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if isinstance(value, Tensor)
    }


def _load_optimizer_(optimizer: Optimizer, saved: Mapping[str, Tensor], source: str) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in saved.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise CheckpointError(f"{source} does not fit the optimizer: it remembers {key}")
        parameter = parameters[int(index)]
        if value.dim() and value.shape != parameter.shape:
            raise CheckpointError(
                f"{source} does not fit the optimizer: {key} is {list(value.shape)} in the file "
                f"and {list(parameter.shape)} in the model"
            )
        state.setdefault(int(index), {})[name] = (
            _like(parameter.detach(), value) if value.dim() else value
        )
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _like(template: Tensor, value: Tensor) -> Tensor:
    """Copy a value into the memory layout and device of a tensor: sums depend on the layout."""
    return torch.empty_like(template, dtype=value.dtype).copy_(value)
