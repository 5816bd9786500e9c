"""Which status a run ends with."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from admm_exp.errors import StoppedError
from admm_exp.tracking.address import without_password
from admm_exp.tracking.tracker import Tracker

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a run in order; Windows has no SIGHUP."""


logger = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived."""


@contextmanager
def tracked(tracker: Tracker) -> Iterator[Tracker]:
    """Finish `tracker` with the status that fits how the body ends.

    The body's end is FINISHED, an interrupt, SIGTERM, SIGHUP or a `StoppedError` is KILLED, any
    other exception is FAILED with the tag `error`; `sys.exit(0)` counts as the end. Exceptions
    pass on unchanged.

    Args:
        tracker: An open tracker; finished on return.

    Raises:
        Terminated: SIGTERM or SIGHUP arrived during the body, in the main thread.
    """
    with sigterm_raises():
        try:
            yield tracker
        except KeyboardInterrupt:
            with _one_more_interrupt_ignored():
                tracker.finish("KILLED")
            raise
        except StoppedError as error:
            tracker.finish("KILLED", str(error))
            raise
        except BaseException as error:
            if isinstance(error, SystemExit) and not error.code:
                tracker.finish("FINISHED")
            else:
                text = f"{type(error).__name__}: {error}"
                tracker.finish("FAILED", without_password(text))
            raise
        tracker.finish("FINISHED")


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise Terminated where the body is when SIGTERM or SIGHUP arrives; main thread only.

    SIGHUP, which a closed terminal sends, stays ignored where it is, as under nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, _raise_terminated)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _one_more_interrupt_ignored() -> Iterator[None]:
    """Let a second Ctrl-C, typed out of habit, not cut off the status; a third one does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ignore(number: int, frame: FrameType | None) -> None:
        logger.warning("the run is being ended; Ctrl-C once more leaves it as it is")
        signal.signal(number, previous)

    previous = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    if previous is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    # A second signal must not cut off the status that the first one is about to leave.
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise Terminated(f"signal {number}")
