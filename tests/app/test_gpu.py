"""Whole jobs on a GPU, where there is one."""

import json

import pytest
import torch

pytestmark = pytest.mark.gpu
QUICK = ("tracking=none", "figures=none", "schedule.dense.epochs=2", "schedule.finetune.epochs=1")


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_the_main_job_runs_on_a_gpu_by_whatever_name(command, tmp_path, device):
    done = command(*QUICK, f"device={device}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["environment"]["device"].startswith("cuda")
    assert report["models"]["finetuned"]["test_accuracy"] > 0.7


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_job_on_a_gpu_gives_the_same_numbers_again(command, precision):
    settings = (*QUICK, f"trainer.precision={precision}", "model=resnet20")
    assert command(*settings, "hydra.run.dir=run").returncode == 0
    again = command("repeat=run")
    assert again.returncode == 0, again.stderr
    assert "is identical to" in again.stdout


def test_more_processes_than_gpus_are_refused_in_a_sentence(command):
    n = torch.cuda.device_count() + 1
    done = command(*QUICK, f"trainer.devices={n}")
    assert done.returncode == 1
    assert f"trainer.devices={n} takes a GPU each" in done.stderr
