"""The settings of pytest in pyproject.toml."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# What shutil.rmtree tells pytest when another session writes into the folder that it removes.
REFILLED = """
import errno, os, shutil

def rmtree(path, *args, onerror=None, onexc=None, **settings):
    error = OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
    if onexc:
        onexc(os.rmdir, str(path), error)
    elif onerror:
        onerror(os.rmdir, str(path), (OSError, error, None))

shutil.rmtree = rmtree
"""


def test_a_session_survives_another_that_fills_the_folders_it_cleans_up(tmp_path):
    (tmp_path / "refilled.py").write_text(REFILLED)
    (tmp_path / "test_inner.py").write_text("def test_inner(tmp_path):\n    assert tmp_path\n")
    for number in range(5):  # pytest keeps the last three
        (tmp_path / f"pytest-of-{getpass.getuser()}" / f"pytest-{number}").mkdir(parents=True)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "refilled"]
    command += ["-p", "no:cacheprovider"]  # it removes a folder of its own with the same rmtree
    command += ["-c", str(PYPROJECT), "--rootdir", str(tmp_path), str(tmp_path / "test_inner.py")]
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PYTEST_DEBUG_TEMPROOT": str(tmp_path),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
