"""Running a command in the process of the tests, for what ends before anything is trained."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

VARIABLES = ("MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "ADMM_EXP_TRACEBACK")


def refusal_of(
    monkeypatch: pytest.MonkeyPatch, command: Callable[[], None], folder: Path, *arguments: str
) -> str:
    """Run a command that is refused, in a folder, and return what Python prints at its end."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")  # so that what the command sets is gone after the test
        monkeypatch.delenv(variable)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["admm-exp", *arguments])
    with pytest.raises(SystemExit) as ended:
        command()
    assert isinstance(ended.value.code, str), ended.value.code
    return ended.value.code
