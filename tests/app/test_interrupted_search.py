"""A search that is interrupted leaves no trial that looks as if it went on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from admm_exp.app import search
from admm_exp.sweep.study import SearchSettings, open_study
from admm_exp.tracking.tracker import NullTracker

pytest.importorskip("optuna", reason="needs the extra search")


def test_the_trials_of_an_interrupted_batch_are_told_as_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    sweep = SimpleNamespace(tracker=NullTracker(), folder=tmp_path, run=interrupted)
    monkeypatch.setattr(search, "open_sweep", lambda *_: sweep)
    monkeypatch.setattr(search, "group_hash", lambda _: "abc")
    monkeypatch.setattr(search, "_limited", lambda spec, *_: spec)
    monkeypatch.setattr("admm_exp.experiment.identity.run_code", lambda _: {})
    storage = f"sqlite:///{tmp_path}/search.db"
    settings = SearchSettings(["accuracy"], 4, 2, storage, "it", False)
    asked: dict[str, Any] = {"spec_of": lambda _: SimpleNamespace(config=None)}
    with pytest.raises(KeyboardInterrupt):
        search.run_search("it", {}, settings, master=None, launch=None, **asked)
    trials = open_study(settings, "it").get_trials()
    assert len(trials) == 2
    assert all(trial.state.is_finished() for trial in trials)
