"""Data sets of one format: the same arguments, written once."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Builder = TypeVar("Builder", bound=Callable[..., Any])


def arguments_of(format_builder: Callable[..., Any]) -> Callable[[Builder], Builder]:
    """Let a function that passes its keyword arguments on have the signature of what takes them.

    Settings are checked against signatures, and --help of an editor shows them.

    Args:
        format_builder: Builds any data set of the format; its positional arguments say which.
    """
    taken = inspect.signature(format_builder)
    named = [p for p in taken.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]

    def with_signature(builder: Builder) -> Builder:
        signature = taken.replace(parameters=named)
        builder.__signature__ = signature  # type: ignore[attr-defined]
        builder.__annotations__ = {p.name: p.annotation for p in named} | {
            "return": taken.return_annotation
        }
        return builder

    return with_signature
