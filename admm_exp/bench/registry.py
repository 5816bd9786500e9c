"""The rows by name; what measures them is imported when it is asked for."""

import difflib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from admm_exp.bench.measurement import Bench, Measurement
from admm_exp.errors import ConfigError

Measure = Callable[[Bench], Iterator[Measurement]]


@dataclass(frozen=True)
class Entry:
    """A group of rows.

    Args:
        about: What is measured, in a few words.
        function: `module:function` in this room.
        is_quick: Whether it belongs to a quick benchmark.
    """

    about: str
    function: str
    is_quick: bool = True

    def load(self) -> Measure:
        """Import the function that measures the rows."""
        module, _, name = self.function.partition(":")
        return cast(Measure, getattr(importlib.import_module(f"admm_exp.bench.{module}"), name))


ENTRIES = {
    "data": Entry("images a second: batched augmentation, torchvision a sample", "data:cifar"),
    "jpeg": Entry("decoding: uint8 to the device, PIL to float", "data:jpeg"),
    "order": Entry("what comes before the first batch of an epoch", "data:order"),
    "step": Entry("a training step: plain, with ADMM, penalty in the loss", "step:steps"),
    "update": Entry("Z and U update by metric", "update:updates"),
    "trace": Entry("trace, proof and cut, beside Torch-Pruning if installed", "update:traces"),
    "cut": Entry("removing the channels", "update:cuts"),
    "evaluation": Entry("a pass of evaluation", "step:evaluation"),
    "checkpoint": Entry("writing a checkpoint", "storage:checkpoint"),
    "logging": Entry("an epoch's metrics to MLflow on SQLite", "storage:logging"),
    "report": Entry("reading finished runs from SQLite", "storage:reading"),
    "startup": Entry("--help and a configuration error, as processes", "process:startup"),
    "inference": Entry("dense and small network, batch 1 and 64", "inference:inference"),
    "multiple": Entry(
        "small networks whose channels are a multiple of 8, or not",
        "inference:multiples",
        is_quick=False,
    ),
    "overhead": Entry("one more short job of a sweep", "process:overhead", is_quick=False),
    "first": Entry(
        "the start of a sweep among 10,000 stored runs", "process:first", is_quick=False
    ),
    "job": Entry("the whole default job", "process:job", is_quick=False),
    "sweep": Entry("four jobs in turn and two at a time", "process:sweep", is_quick=False),
}


def chosen(names: Sequence[str], is_quick: bool) -> list[str]:
    """List the entries to run, in the order of the registry.

    Args:
        names: What is asked for; none for the default.
        is_quick: Whether the default is that of a quick benchmark.

    Raises:
        ConfigError: If there is no such entry.
    """
    for name in names:
        if name not in ENTRIES:
            near = difflib.get_close_matches(name, ENTRIES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(ENTRIES)}"
            raise ConfigError(f"row {name!r} is unknown; {hint}")
    if names:
        return [name for name in ENTRIES if name in names]
    return [name for name, e in ENTRIES.items() if e.is_quick or not is_quick]
