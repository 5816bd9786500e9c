from pathlib import Path

import pytest
import torch

from admm_exp.bench.data import PHOTOGRAPHS, jpeg, order
from admm_exp.bench.machine import Machine
from admm_exp.bench.measurement import Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("admm_exp.bench.measurement.QUICK_ROUNDS", 1)
    monkeypatch.setattr("admm_exp.bench.data.TURN_SECONDS", 0.0)
    return Bench(True, torch.device("cpu"), tmp_path, Machine(1e9, 1e9))


def test_decoding_is_measured_on_real_photographs(bench: Bench) -> None:
    (row,) = jpeg(bench)
    assert row.items == 5 * sum(map(len, PHOTOGRAPHS.values()))
    assert list(row.seconds) == ["PIL and float32", "decode_jpeg and uint8"]


def test_order_of_an_epoch_is_told_for_all_of_imagenet(bench: Bench) -> None:
    (row,) = order(bench)
    (target,) = row.targets
    assert target.what == "seconds for 1,281,167 samples at this rate"
    assert target.value == pytest.approx(row.median_seconds("first batch") * 1_281_167 / row.items)
