"""Figures that another process draws are those that this one would draw, and failures are told."""

import sys

import pytest
from support.runs import finished_report

from admm_exp.report import drawing_process
from admm_exp.report.drawing_process import drawn_meanwhile
from admm_exp.report.figures.run import draw_all
from admm_exp.tracking import process_tracker


@pytest.fixture
def report():
    phases = [{"name": "dense", "seconds": 1.0, "epochs": 2, "cached": False}]
    epoch = {"phase": "dense", "lr": 0.1, "train_loss": 0.5, "val_accuracy": 0.9, "val_loss": 0.5}
    history = [epoch | {"epoch": number, "seconds": 1.0} for number in (1, 2)]
    return finished_report() | {"phases": phases, "history": history}


@pytest.fixture
def fresh(monkeypatch):
    """Make as if this process had not loaded matplotlib, on two cores."""
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(drawing_process, "usable_cores", lambda: 2)


def test_another_process_draws_the_same_pictures(report, fresh, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, drawn_meanwhile(report, tmp_path / "there") as files:
        patched.setattr(drawing_process, "draw_all", lambda *_: pytest.fail("drawn here"))
        assert files == []
    monkeypatch.undo()  # half of matplotlib anew would not draw in the house style
    expected = draw_all(report, tmp_path / "here")
    assert [path.name for path in files] == [path.name for path in expected]
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in expected]


def test_what_the_process_does_not_draw_is_drawn_here(report, fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(process_tracker, "START", "raise SystemExit(1)")
    with drawn_meanwhile(report, tmp_path) as files:
        pass
    assert files
    assert all(path.is_file() for path in files)


def test_no_process_is_left_when_the_body_fails(report, fresh, tmp_path, monkeypatch):
    started = []
    start = drawing_process._started
    monkeypatch.setattr(
        drawing_process, "_started", lambda *given: started.append(start(*given)) or started[0]
    )
    monkeypatch.setattr(process_tracker, "START", "import time; time.sleep(60)")
    with pytest.raises(ValueError, match="bad"), drawn_meanwhile(report, tmp_path):
        raise ValueError("bad")
    assert started[0].returncode is not None
