"""A sweep in a process of its own, watched from outside while clusters stop its jobs."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import clean_environment

PATIENCE_SECONDS = 1500


def started(
    folder: Path, *words: str, cluster: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start the command in `folder`; `cluster` is what its environment needs beside the usual."""
    return subprocess.Popen(
        [sys.executable, "-m", "admm_exp", *words],
        cwd=folder,
        env=clean_environment() | dict(cluster or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(sweeping: "subprocess.Popen[str]", condition: Callable[[], Any]) -> Any:
    """Wait as long as the sweep runs; one that ended too early is shown with what it said."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        if sweeping.poll() is not None or time.monotonic() > deadline:
            sweeping.kill()
            pytest.fail("\n".join(sweeping.communicate()))
        time.sleep(0.2)
    return found
