"""A library's warning is shown once: in a process that forgets, and in all processes of a sweep."""

import subprocess
import sys
import warnings

import pytest

from admm_exp.app import library_warnings
from admm_exp.app.library_warnings import shown_once

ONE_JOB = """
import sys, warnings
from pathlib import Path
from admm_exp.app.library_warnings import shown_once
with shown_once(Path(sys.argv[1])):
    warnings.warn("old name", DeprecationWarning)
    warnings.warn(sys.argv[2])
"""


@pytest.fixture
def shown(monkeypatch):
    """Collect what reaches the terminal, in a process that has shown nothing yet."""
    monkeypatch.setattr(library_warnings, "_seen", set())
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda text, *_: lines.append(str(text)))
        yield lines


def warn(text):
    warnings.warn(text, UserWarning, stacklevel=1)


def test_what_python_has_forgotten_is_not_shown_again(shown):
    with shown_once():
        for _ in range(3):
            with warnings.catch_warnings():  # after which Python shows everything anew
                pass
            warn("careful")
        warn("and this")
    assert shown == ["careful", "and this"]


def test_jobs_in_one_process_share_what_was_shown(shown, tmp_path):
    for _ in range(2):
        with shown_once(tmp_path):
            warn("careful")
    assert shown == ["careful"]


def test_warnings_are_shown_as_before_afterwards(shown):
    with shown_once():
        warn("careful")
    warn("careful")
    assert shown == ["careful", "careful"]


def test_a_folder_that_cannot_be_written_hides_no_warning(shown, tmp_path):
    with shown_once(tmp_path / "missing"):
        warn("careful")
    assert shown == ["careful"]


def test_processes_of_a_sweep_share_what_was_shown(tmp_path):
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "always", "-c", ONE_JOB, str(tmp_path), own],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for own in ("first", "second")
    ]
    assert ["old name" in output for output in outputs] == [True, False]
    assert "UserWarning: first" in outputs[0]
    assert "UserWarning: second" in outputs[1]
