"""Made-up cases: a few in the suite, many where time is no matter."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LONGEST_SECONDS = 120
MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1, max_size=4)


def times(many: int, few: int = 20) -> Any:
    """Try a few cases by default, and many where time is no matter."""
    cases = [few, pytest.param(many, marks=pytest.mark.slow)]
    return pytest.mark.parametrize("n", cases)


def tried(n: int, check: Any, strategy: Any) -> None:
    """Run a check on n made-up cases."""
    options = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    settings(max_examples=n, **options)(given(strategy)(check))()


def damaged(content: bytes, mutations: list[tuple[float, bytes]]) -> bytes:
    """Overwrite parts of a file; an empty mutation cuts it off."""
    changed = bytearray(content)
    for place, new in mutations:
        start = int(place * len(changed))
        changed[start : start + len(new) if new else None] = new
    return bytes(changed)


@contextmanager
def ended_by_alarm() -> Iterator[None]:
    """Let `signal.alarm` end what waits for ever; every case sets it anew."""

    def too_long(*_: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, too_long)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
