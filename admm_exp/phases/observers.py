"""Who sees a run as it happens."""

from dataclasses import dataclass
from typing import Protocol

from admm_exp.results import EpochRecord, IterationRecord, PhaseResult


class Observer(Protocol):
    """Sees a run as it happens: tracker, terminal, history."""

    def phase_started(self, name: str, epochs: int) -> None:
        """Take note that a phase of so many epochs begins."""

    def epoch_finished(self, record: EpochRecord) -> None:
        """Take note of an epoch."""

    def iteration_finished(self, record: IterationRecord) -> None:
        """Take note of an ADMM iteration."""

    def phase_finished(self, result: PhaseResult) -> None:
        """Take note that a phase is over."""

    def warned(self, message: str) -> None:
        """Take note of what a person should know now."""


@dataclass(frozen=True)
class Observers:
    """Several observers as one, told in order."""

    members: tuple[Observer, ...]

    def phase_started(self, name: str, epochs: int) -> None:
        """Tell all members."""
        for member in self.members:
            member.phase_started(name, epochs)

    def epoch_finished(self, record: EpochRecord) -> None:
        """Tell all members."""
        for member in self.members:
            member.epoch_finished(record)

    def iteration_finished(self, record: IterationRecord) -> None:
        """Tell all members."""
        for member in self.members:
            member.iteration_finished(record)

    def phase_finished(self, result: PhaseResult) -> None:
        """Tell all members."""
        for member in self.members:
            member.phase_finished(result)

    def warned(self, message: str) -> None:
        """Tell all members."""
        for member in self.members:
            member.warned(message)
