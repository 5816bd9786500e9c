from pathlib import Path

import pytest
import torch

from admm_exp.bench.gpu import gpu
from admm_exp.bench.machine import Machine
from admm_exp.bench.row import Bench


def test_the_rows_for_a_gpu_run_in_a_tiny_form_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admm_exp.bench.row.QUICK_ROUNDS", 1)
    bench = Bench(True, torch.device("cpu"), tmp_path, Machine(1e9, 1e9))
    (row,) = gpu(bench)
    assert list(row.seconds) == ["bare loop", "plain", "ADMM"]
    assert row.items == 16
    assert [target.bound for target in row.targets] == [0.95, 0.95]
    assert (row.times_limit("plain") or 0.0) > 0.0
