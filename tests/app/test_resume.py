"""Runs that die by SIGKILL and go on; `tests/kills.py` does the same at random moments."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kills
import pytest
from conftest import run_command

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
