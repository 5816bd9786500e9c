"""Who sees `ADMMPruner.prune`: its history, the caller's observer, a person."""

from collections.abc import Iterator
from contextlib import contextmanager

from admm_exp.phases.observers import Observer, Observers
from admm_exp.results import Announcing, History
from admm_exp.training.step_rates import all_steps

BETWEEN = {"admm": "measuring what a cut costs", "prune": "measuring the small network"}


@contextmanager
def watching(
    observer: Observer | None, steps_per_epoch: int | None, *, is_shown: bool
) -> Iterator[tuple[History, Observers]]:
    """Yield the history of what happens inside the block, and all who are to be told.

    Args:
        observer: Of the caller.
        steps_per_epoch: Optimizer steps an epoch takes, as far as known.
        is_shown: Whether a person sees it: a bar on a terminal, lines elsewhere.
    """
    history = Announcing()
    others = () if observer is None else (observer,)
    if not is_shown:
        yield history, Observers((history, *others))
        return
    from admm_exp.report.terminal import Terminal

    terminal = Terminal(between=BETWEEN, steps_per_epoch=steps_per_epoch or 0, shows_warnings=False)
    try:
        with all_steps(terminal.stepped):
            yield history, Observers((history, *others, terminal))
    finally:
        terminal.close()
