"""The examples of docstrings, run."""

import doctest
from collections.abc import Mapping
from typing import Any


def run_examples(thing: Any, names: Mapping[str, Any] | None = None) -> int:
    """Run the examples in the docstring of a function or class; return their number.

    Args:
        thing: What is documented.
        names: What the examples may use besides the names of its module.
    """
    (found,) = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__)
    found.globs.update(names or {})
    told: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(found, out=told.append)
    assert outcome.failed == 0, "".join(told)
    return outcome.attempted
