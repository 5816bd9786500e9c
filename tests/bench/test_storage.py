"""The row of reading a store."""

from pathlib import Path

import pytest
import torch

from admm_exp.bench import storage
from admm_exp.bench.machine import Machine
from admm_exp.bench.measurement import Bench


def test_reading_is_told_for_two_thousand_and_ten_thousand_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "_finished_run", lambda *given: None)
    monkeypatch.setattr(Bench, "take_turns", lambda *given: {"read": [0.1, 0.1, 0.1]})
    [row] = storage.reading(Bench(True, torch.device("cpu"), tmp_path, Machine(1.0, 1.0)))
    assert [target.what for target in row.targets] == [
        "seconds for 2,000 runs at this rate",
        "seconds for 10,000 runs at this rate",
    ]
    assert [target.value for target in row.targets] == pytest.approx([10.0, 50.0])
    assert [target.is_met for target in row.targets] == [True, False]
