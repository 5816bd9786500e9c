"""Runs that stayed RUNNING although their process is gone."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from admm_exp.tracking import queries
from admm_exp.tracking.owner import owner_tags
from admm_exp.tracking.queries import LOST, close_lost, earlier_sweep
from admm_exp.tracking.stored_runs import StoredRun

DEAD = {"pid_start": "never"}


class Client:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def set_tag(self, run_id, key, value):
        self.told.append((run_id, key, value))

    def set_terminated(self, run_id, status):
        self.told.append((run_id, status))


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A store of two runs: one of a process that lives, in a folder, and one that is lost."""
    filters, tags = [], owner_tags()
    runs = [
        StoredRun("alive", "", "RUNNING", "", tags=tags | {"run_dir": str(tmp_path / "sweep/0")}),
        StoredRun("lost", "", "RUNNING", "", tags=tags | DEAD),
    ]

    def search(client, experiment, among):
        filters.append(among)
        return iter(runs)

    monkeypatch.setattr(queries, "_search", search)
    return filters


def test_a_run_whose_process_is_gone_is_killed_and_says_why(asked):
    client = Client()
    close_lost(client, "1")
    assert client.told == [("lost", "error", LOST), ("lost", "KILLED")]
    assert asked == ["attributes.status = 'RUNNING'"]


def test_in_the_folder_of_a_sweep_that_is_over_every_run_is(asked, tmp_path):
    client = Client()
    close_lost(client, "1", "parent", tmp_path / "sweep")
    assert [run_id for run_id, *rest in client.told if rest == ["KILLED"]] == ["alive", "lost"]
    (among,) = asked
    assert among.endswith(" and tags.`mlflow.parentRunId` = 'parent'")


@pytest.mark.parametrize(("status", "expected"), [("RUNNING", "old"), ("KILLED", "new")])
def test_a_sweep_that_still_goes_on_is_not_gone_on_with(monkeypatch, status, expected):
    found = [StoredRun("new", "", status, ""), StoredRun("old", "", "FAILED", "")]
    monkeypatch.setattr(queries, "opened", lambda *_: nullcontext())
    monkeypatch.setattr(queries, "experiment_id", lambda *_: "1")
    monkeypatch.setattr(queries, "close_lost", lambda *_: None)
    monkeypatch.setattr(queries, "_search", lambda *_: iter(found))
    assert earlier_sweep("sqlite:///a.db", "e", Path(), "hash") == expected
