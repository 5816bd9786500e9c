import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from admm_exp.bench.gpu import gpu
from admm_exp.bench.machine import Machine
from admm_exp.bench.measurement import Bench


def test_the_rows_for_a_gpu_run_in_a_tiny_form_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admm_exp.bench.measurement.QUICK_ROUNDS", 1)
    bench = Bench(True, torch.device("cpu"), tmp_path, Machine(1e9, 1e9))
    (row,) = gpu(bench)
    assert list(row.seconds) == ["bare loop", "plain", "ADMM"]
    assert row.items == 16
    assert [target.bound for target in row.targets] == [0.95, 0.95]
    assert (row.times_limit("plain") or 0.0) > 0.0


MISSING = "hydra omegaconf mlflow pydantic rich matplotlib sklearn safetensors onnx onnxruntime"
ALONE = """
import sys
sys.modules |= dict.fromkeys(sys.argv[1].split())  # as if they were not installed
from admm_exp.bench import gpu, measurement
measurement.ROUNDS = 1
gpu.main("cpu")
"""


@pytest.mark.slow
def test_the_rows_for_a_gpu_need_torch_and_torchvision_alone() -> None:
    command = [sys.executable, "-W", "ignore", "-c", ALONE, MISSING]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environment, *rows = map(json.loads, done.stdout.splitlines())
    assert environment["device"] == "cpu"
    assert [row["name"] for row in rows] == ["gpu_resnet20", "together", "update", "evaluation"]
