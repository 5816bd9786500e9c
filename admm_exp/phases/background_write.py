"""Writing to a disk while training goes on."""

from collections.abc import Callable
from threading import Thread


class BackgroundWrite:
    """One write at a time, in a thread that also a process that ends waits for."""

    def __init__(self) -> None:
        self._thread = Thread()
        self._error: Exception | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Begin a write; the one before must be over."""
        self._thread = Thread(target=self._run, args=(write,), name="checkpoint")
        self._thread.start()

    def failure(self) -> OSError | None:
        """Wait for the end of the write; return once what the disk refused it with.

        Raises:
            Exception: What else it failed with.
        """
        if self._thread.ident is not None:
            self._thread.join()
        error, self._error = self._error, None
        if error is None or isinstance(error, OSError):
            return error
        raise error

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            self._error = error
