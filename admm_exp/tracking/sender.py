"""The way of a run's entries to its store, which may be slow, gone, or back later."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from admm_exp.tracking import limits
from admm_exp.tracking.address import contact, without_password
from admm_exp.tracking.store import brief_requests

if TYPE_CHECKING:
    from mlflow.entities import Metric

FLUSH_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0
PATIENCE_SECONDS = 5.0
SILENCE_SECONDS = 120.0

logger = logging.getLogger(__name__)


class Sender:
    """Sends entries in a thread of its own, in order, again and again until the store has them.

    Who asks for a delivery waits for it at most 5 s, which is longer than a healthy store needs;
    after a slow delivery nobody waits until one was quick again. While the store fails, tries are
    spaced further and further apart. What waits is kept in memory: a few numbers an epoch.

    Args:
        uri: Tracking URI.
        journal: File that holds every entry as well, for the message.
        send_metrics: Sends metrics; one sent twice must be stored once.
    """

    def __init__(
        self, uri: str, journal: Path, send_metrics: Callable[[list["Metric"]], object]
    ) -> None:
        self._uri = uri
        self._journal = journal
        self._send_metrics = send_metrics
        self._metrics: list[Metric] = []
        self._outbox: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread()
        self._is_busy = self._is_slow = self._is_told = False
        self._failure: Exception | None = None
        self._arrived = 0
        self._pause_seconds = FLUSH_SECONDS
        self._next_try = time.monotonic() + FLUSH_SECONDS

    def take_metrics(self, metrics: list["Metric"]) -> None:
        """Keep points for the next delivery, which is now if there are many of them."""
        self._metrics += metrics
        self._deliver_if(len(self._metrics) >= limits.METRICS_PER_CALL)

    def take(self, send: Callable[[], object]) -> None:
        """Keep a call of the store for the next delivery, which is now unless the store fails."""
        self._outbox.append(send)
        self._deliver_if(True)

    def deliver(self) -> None:
        """Send what waits; if the store fails, keep it and warn once."""
        self._start()
        self._thread.join(0.0 if self._is_slow else PATIENCE_SECONDS)
        self._is_slow = self._is_slow or self._thread.is_alive()

    def deliver_last(self, sends: Iterable[Callable[[], object]]) -> None:
        """Send all that waits, then the last entries; wait as long as something arrives.

        Raises:
            Exception: What the store failed with, or TimeoutError if nothing arrives for 2 minutes.
        """
        self._is_told = True
        self._outbox += sends
        self._start()
        arrived = -1
        while self._thread.is_alive() and arrived != self._arrived:
            arrived = self._arrived
            self._thread.join(SILENCE_SECONDS)
        if self._thread.is_alive():
            raise TimeoutError(f"no answer in {SILENCE_SECONDS:g} s")
        if self._failure is not None:
            raise self._failure

    def describe(self, failure: Exception) -> tuple[str, str, Path]:
        """Return the store, one line of what it failed with, and the file that keeps the rest."""
        reason = (str(failure).strip() or type(failure).__name__).splitlines()[0]
        return without_password(self._uri), reason, self._journal

    def _deliver_if(self, wanted: bool) -> None:
        is_due = time.monotonic() >= self._next_try
        if is_due or (wanted and self._failure is None):
            self.deliver()

    def _start(self) -> None:
        """Start a delivery, unless one is under way: that takes what was added meanwhile."""
        with self._lock:
            if self._is_busy:
                return
            self._is_busy = True
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        start, is_over = time.monotonic(), False
        while not is_over:
            failure = self._try()
            with self._lock:
                is_over = failure is not None or not (self._metrics or self._outbox)
                self._is_busy, self._failure = not is_over, failure
        self._is_slow = time.monotonic() - start > PATIENCE_SECONDS
        longer = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        self._pause_seconds = FLUSH_SECONDS if failure is None else longer
        self._next_try = time.monotonic() + self._pause_seconds
        if failure is not None and not self._is_told:
            self._is_told = True
            logger.warning(
                "MLflow at %s does not take entries (%s): training goes on, metrics are kept in %s "
                "and sent again later",
                *self.describe(failure),
            )

    def _try(self) -> Exception | None:
        """Try to send everything; return the last failure."""
        try:
            contact(self._uri)
            with brief_requests():
                while self._metrics:
                    part = self._metrics[: limits.METRICS_PER_CALL]
                    self._send_metrics(part)
                    del self._metrics[: len(part)]
                    self._arrived += 1
                return self._try_outbox()
        except Exception as error:
            return error

    def _try_outbox(self) -> Exception | None:
        """Try every entry, so that one lost file does not hold back the run's status."""
        failure, index = None, 0
        while index < len(self._outbox):
            start = time.monotonic()
            try:
                self._outbox[index]()
            except Exception as error:
                if time.monotonic() - start > PATIENCE_SECONDS:
                    raise  # the store hangs: the others would as well
                failure = error
                index += 1
            else:
                del self._outbox[index]
                self._arrived += 1
        return failure
