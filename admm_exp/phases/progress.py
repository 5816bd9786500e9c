"""How far a run has come: what a phase finds when it begins anew where it stopped."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import EpochRecord, IterationRecord, PhaseResult


@dataclass
class PhaseLog:
    """What a phase has done so far.

    Args:
        epochs: Its epochs.
        iterations: Its ADMM iterations.
        warnings: What it warned of.
        steps_per_epoch: Optimizer steps of the last epoch.
        seconds: Time it took, over all processes that worked on it.
        result: How it ended; None while it lasts.
        choice: What it settled for the rest of the run, as plain data.
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    iterations: list[IterationRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    steps_per_epoch: int = 0
    seconds: float = 0.0
    result: PhaseResult | None = None
    choice: Any = None


@dataclass(frozen=True)
class LivePhase:
    """What a phase trains; all of it is changed in place.

    Args:
        name: Name of the phase.
        model: The network.
        optimizer: Its optimizer.
        constrained: The constraint on the network, if the phase has one.
    """

    name: str
    model: nn.Module
    optimizer: Optimizer
    constrained: ConstrainedModel | None = None


class Progress:
    """Keeps nothing: every phase begins at its beginning. What keeps something is derived from it.

    What is kept lets another process go on with a run.
    """

    def begin(self, live: LivePhase) -> PhaseLog:
        """Bring everything to where the phase stopped, and keep it from now on after every epoch.

        Args:
            live: The phase, which has been told to the observer as started.

        Returns:
            What the phase has done by now, which is nothing in a new run.
        """
        return PhaseLog()

    def keep(self, phase: str, model: nn.Module) -> None:
        """Remember the network of a phase that trained nothing."""

    def has_begun(self, phase: str) -> bool:
        """Tell whether an earlier process worked on the phase."""
        return False

    def settle(self, phase: str, choose: Callable[[], Any]) -> Any:
        """Choose once in the life of a run what could come out otherwise another time.

        Args:
            phase: Name of the phase, which has been told to the observer as started.
            choose: Returns plain data.
        """
        return choose()
