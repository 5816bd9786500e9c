"""Whether the process that a run belongs to is still there."""

import os
from pathlib import Path

import pytest

from admm_exp.tracking import owner
from admm_exp.tracking.owner import has_died, owner_tags


def killed_with(monkeypatch, error):
    """Let the system answer so when it is asked for a process."""

    def kill(pid, number):
        assert number == 0
        if error is not None:
            raise error

    monkeypatch.setattr(owner.os, "kill", kill)


def test_this_process_lives():
    assert owner_tags()["pid"] == str(os.getpid())
    assert not has_died(owner_tags())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProcessLookupError(), True),
        (OverflowError(), True),
        (PermissionError(), False),  # it lives and is another user's
        (None, False),
    ],
)
def test_the_system_says_who_lives(monkeypatch, error, expected):
    killed_with(monkeypatch, error)
    assert has_died(owner_tags()) is expected


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_process_that_has_the_number_of_the_dead_one_is_another():
    assert has_died(owner_tags() | {"pid_start": "1"})


@pytest.mark.parametrize("tags", [{"host": "another"}, {"pid": ""}, {"pid": "many"}])
def test_nothing_is_known_of_what_cannot_be_asked_for(monkeypatch, tags):
    killed_with(monkeypatch, ProcessLookupError())
    assert not has_died(owner_tags() | tags)
