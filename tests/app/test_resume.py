"""Runs that die by SIGKILL and go on as if nothing had been."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SHORT, clean_environment, run_command

KILLS = Path(__file__).parents[1] / "support" / "kills.py"

DEADLY = """
import os, signal
from pathlib import Path
from torch import nn

sync = os.fsync

def fsync(number):
    written = os.readlink(f"/proc/self/fd/{number}")
    if Path("deadly").exists() and "/checkpoints/" in written:
        Path("left").write_text(written)
        Path("deadly").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    sync(number)

os.fsync = fsync

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, num_classes))
"""


def kill(*arguments: str) -> list[str]:
    environment = clean_environment() | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(KILLS), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.strip().splitlines()


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_at_every_turn_ends_like_one_that_never_was() -> None:
    verdict = json.loads(kill("chain")[-1])
    assert verdict == {"kills": 7, "differing": []}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.compile=true"],
        ["schedule.accumulation=3", "schedule.clip_norm=0.5"],
        ["schedule.epoch_parts=3"],
    ],
    ids=["compiled", "accumulated", "epochs of a third"],
)
def test_another_kind_of_step_that_is_killed_at_every_turn_changes_nothing(
    overrides: list[str],
) -> None:
    verdict = json.loads(kill("chain", *overrides)[-1])
    assert verdict == {"kills": 7, "differing": []}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_30_kills_at_random_moments_change_nothing() -> None:
    *lines, tally = kill("30")
    assert tally.startswith("30 kills, 0 with another result")
    assert len(lines) == 30


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_change_nothing_in_any_method() -> None:
    *lines, tally = kill("12", "varied")
    assert tally.startswith("12 kills, 0 with another result")
    assert len({line.split(",")[0] for line in lines}) == 12


def can_mount() -> bool:
    """Tell whether a small disk may be mounted here."""
    if not hasattr(os, "fork") or shutil.which("unshare") is None:
        return False
    trial = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="mounting a small disk is not permitted here")
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room() -> None:
    verdict = json.loads(kill("full")[-1])
    assert verdict["differing"] == []
    assert len(verdict["told"]) == 5
    sentence = r"error: the disk of (.+) is full: make room and go on with resume=\1"
    for lines in verdict["told"].values():
        assert re.fullmatch(sentence, lines[-1])
        assert not any("Traceback" in line for line in lines)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="looks up open files as Linux names them")
def test_a_run_that_is_killed_while_a_thread_writes_a_checkpoint_changes_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.py").write_text(DEADLY)
    own = ("model._target_=own.net", "~model.width", "tracking=none", *SHORT)
    whole = run_command(tmp_path, *own, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    shutil.rmtree(tmp_path / "outputs")
    resumed = ("resume=killed", "model._target_=own.net")
    for words in [(*own, "hydra.run.dir=killed"), resumed, resumed]:
        (tmp_path / "deadly").touch()
        assert run_command(tmp_path, *words).returncode == -signal.SIGKILL
        half_written = Path((tmp_path / "left").read_text())
        assert half_written.exists()
    done = run_command(tmp_path, *resumed)
    assert done.returncode == 0, done.stderr
    assert not half_written.exists()
    found, expected = ((tmp_path / d / "model.safetensors") for d in ("killed", "whole"))
    assert found.read_bytes() == expected.read_bytes()
