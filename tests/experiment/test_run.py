from types import SimpleNamespace

import pytest
from torch import nn

from admm_exp.errors import CheckpointError
from admm_exp.experiment import identity, run
from admm_exp.experiment.run import find_checkpoint

ORIGIN = {"settings": "a", "data": "b", "torch": "2", "device": "cpu", "code": "c"}


@pytest.fixture
def resume(monkeypatch, tmp_path):
    """Look for the checkpoint of a run whose origin differs in some entries by now."""
    found = SimpleNamespace(origin=ORIGIN)

    def look(**changes):
        monkeypatch.setattr(run, "read_newest", lambda _: found)
        monkeypatch.setattr(run, "origin_of", lambda *_: ORIGIN | changes)
        return find_checkpoint(None, None, tmp_path) is found

    return look


@pytest.mark.parametrize("name", ["torch", "device", "code"])
def test_resume_goes_on_with_other_versions_and_code_and_says_so(resume, caplog, name):
    assert resume(**{name: "new"})
    assert f"{name} was {ORIGIN[name]} when" in caplog.text
    caplog.clear()
    assert resume()
    assert not caplog.text


@pytest.mark.parametrize("name", ["settings", "data"])
def test_resume_refuses_other_settings_and_data(resume, name):
    with pytest.raises(CheckpointError, match=f"cannot go on: the {name} changed"):
        resume(**{name: "new"})


def test_code_is_that_of_the_users_parts(monkeypatch):
    components = SimpleNamespace(
        builder={"_target_": "torch.nn.Linear"}, train_fn=None, evaluate_fn=print, metric=nn.ReLU()
    )
    before = identity._code_of(components)
    assert identity._code_of(components) == before
    components.train_fn = test_code_is_that_of_the_users_parts
    assert identity._code_of(components) != before
