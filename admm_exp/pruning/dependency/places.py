"""Places in a user's code, for sentences that name the line at fault."""

import linecache
import os
import sys
import sysconfig
from pathlib import Path
from types import FrameType

import torch

_OURS = str(Path(__file__).parents[1])
_TORCH = str(Path(torch.__file__).parent) + os.sep
_STANDARD = sysconfig.get_paths()["stdlib"]


def line_of_caller() -> str | None:
    """Name the line of the network's own code that runs, as `net.py:12, "x.view(n, 400)"`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith(_OURS) and frame.f_code.co_name == "follow":
            return None  # outside of the network
        if _is_users(filename):
            return _described(filename, frame.f_lineno)
        frame = frame.f_back
    return None


def line_of(error: BaseException) -> str | None:
    """Name the innermost line of a network's own code that an exception went through."""
    found, step = None, error.__traceback__
    while step is not None:
        filename = step.tb_frame.f_code.co_filename
        if _is_users(filename):
            found = _described(filename, step.tb_lineno)
        step = step.tb_next
    return found


def _is_users(filename: str) -> bool:
    is_standard = filename.startswith(_STANDARD) and "site-packages" not in filename
    return not (is_standard or filename.startswith((_OURS, _TORCH, "<frozen")))


def _described(filename: str, number: int) -> str:
    source = linecache.getline(filename, number).strip()
    return f"{Path(filename).name}:{number}" + (f', "{source}"' if source else "")
