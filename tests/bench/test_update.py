"""The rows of trace, proof and cut, with and without Torch-Pruning beside."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from admm_exp.bench import rival, update
from admm_exp.bench.machine import Machine
from admm_exp.bench.measurement import Bench, Measurement


def traced(monkeypatch: pytest.MonkeyPatch, name: str | None) -> tuple[Measurement, list[Any]]:
    asked: list[Any] = []
    monkeypatch.setattr(update, "rival_name", lambda: name)
    monkeypatch.setattr(update, "cut_by_rival", lambda *given: asked.append(given))
    bench = Bench(True, torch.device("cpu"), Path(), Machine(1.0, 1.0))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    return update._traced(bench, "resnet50", model, torch.randn(1, 3, 8, 8)), asked


def test_torch_pruning_takes_turns_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    row, asked = traced(monkeypatch, "Torch-Pruning 9.9")
    assert list(row.seconds) == ["Torch-Pruning 9.9", update.WHOLE_CUT]
    assert len(asked) > len(row.seconds["Torch-Pruning 9.9"])  # first calls are not counted
    assert row.targets[-1].value == row.ratio(update.WHOLE_CUT)
    assert row.targets[-1].bound == 1.0


def test_without_torch_pruning_nothing_is_said_to_be_level(monkeypatch: pytest.MonkeyPatch) -> None:
    row, asked = traced(monkeypatch, None)
    assert list(row.seconds) == [update.WHOLE_CUT]
    assert [target.what for target in row.targets] == ["seconds"]
    assert row.notes == {"Torch-Pruning": "not installed"}
    assert not asked


def test_a_rival_that_is_not_installed_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rival, "PACKAGE", "no_such_package")
    assert rival.rival_name() is None


def test_the_rival_leaves_the_model_as_it_is() -> None:
    pytest.importorskip("torch_pruning")
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small: Any = rival.cut_by_rival(model.eval(), torch.randn(1, 3, 8, 8), 5)
    assert [len(small[0].weight), len(small[3].weight)] == [4, 5]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
