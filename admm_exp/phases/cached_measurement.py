"""Measurements on disk, beside the dense network that they were made on."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from admm_exp.results import write_atomically
from admm_exp.training.distribution import from_first, is_first

T = TypeVar("T")
DAMAGE = (ValueError, LookupError, TypeError, AttributeError)


def measured_once(path: Path, parse: Callable[[Any], T], measure: Callable[[], T]) -> T:
    """Read a measurement, or make it and write it there.

    Args:
        path: JSON file; one that is damaged or of something else is measured anew.
        parse: Builds the measurement from plain data; raises ValueError, LookupError, TypeError or
            AttributeError if that is damaged or of something else.
        measure: Makes the measurement, of dataclasses, in all processes together.
    """

    def read() -> Any:
        try:
            found = json.loads(path.read_text())
            parse(found)
        except (OSError, *DAMAGE):
            return None
        return found

    found = from_first(read)
    if found is not None:
        return parse(found)
    value = measure()
    if is_first():
        write_atomically(path, json.dumps(value, default=asdict).encode())
    return value
