"""Whole channels with all that lives and dies with them: the one granularity that is cut out."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Channel:
    """A unit is a channel of a channel group; it has no partition of single weights."""

    name: ClassVar[str] = "channel"
    unit: ClassVar[str] = "channels"
