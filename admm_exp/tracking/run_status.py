"""Which status a run ends with."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from admm_exp.errors import StoppedError
from admm_exp.tracking.address import without_password
from admm_exp.tracking.tracker import Tracker


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@contextmanager
def tracked(tracker: Tracker) -> Iterator[Tracker]:
    """Finish `tracker` with the status that fits how the body ends.

    The body's end is FINISHED, an interrupt, SIGTERM or a `StoppedError` is KILLED, any other
    exception is FAILED with the tag `error`; `sys.exit(0)` counts as the end. Exceptions
    pass on unchanged.

    Args:
        tracker: An open tracker; finished on return.

    Raises:
        Terminated: SIGTERM arrived during the body, in the main thread.
    """
    with sigterm_raises():
        try:
            yield tracker
        except KeyboardInterrupt:
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
    """Raise Terminated where the body is when SIGTERM arrives; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    # A second signal must not cut off the status that the first one is about to leave.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated(f"signal {number}")
