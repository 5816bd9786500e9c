"""Which process a run belongs to, and whether that process is still there."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def owner_tags() -> dict[str, str]:
    """Name this process so that others can tell later whether it still lives."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": str(pid), "pid_start": _start_of(pid)}


def has_died(tags: Mapping[str, str]) -> bool:
    """Say whether the owner of a run is known to be gone; False for owners on other hosts.

    Args:
        tags: Tags of a run, with those of `owner_tags`.
    """
    if tags.get("host") != socket.gethostname() or not tags.get("pid", "").isdigit():
        return False
    pid = int(tags["pid"])
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # it lives and is another user's
        return False
    return tags.get("pid_start", "") != _start_of(pid)


def _start_of(pid: int) -> str:
    """Return when a process started, in clock ticks; process ids are given out again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux
        return ""
    return fields[19]
