"""What is known before training is said before training."""

from pathlib import Path

import pytest
from app.test_wording import assert_refused
from conftest import run_command

OWN = """
from torch import nn
def sigmoid_net(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), nn.Sigmoid(), nn.Conv2d(8, num_classes, 3, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten())
class Two(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                                 nn.Flatten(), nn.Linear(8, num_classes))
    def forward(self, x):
        return self.net(x), x.mean()
def wrong_head(num_classes):
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(8, 3))
def data_dependent(num_classes):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = wrong_head(num_classes)
            self.body[4] = nn.Linear(8, num_classes)
        def forward(self, x):
            return self.body(x) if x.sum().item() > -1e9 else self.body(-x)
    return Net()
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    (package / "own.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(package))
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    {
        "model._target_=own.sigmoid_net ~model.width": "not zero behind sigmoid in 1 (Sigmoid)",
        "model._target_=own.Two ~model.width": "the model must return class scores of shape",
        "model._target_=own.wrong_head ~model.width": "of shape (2, 10)",
        "schedule.optimizer.name=adamw schedule.w_step=gradient rho=1": "take schedule.w_step=prox",
        "schedule.optimizer.name=adamw schedule.w_step=folded rho=1": "w_step=folded needs",
        "rho_policy.growth=0.9": "rho_policy.Ramp: growth must be at least 1, got 0.9",
        "schedule.sparsity_ramp=1.5": "schedule.sparsity_ramp must be at most 1.0, got 1.5",
        "schedule.optimizer.momentum=0": "needs schedule.optimizer.momentum greater than 0",
        "trainer.devices=2 trainer.compile=true": "=2 goes with trainer.compile=false",
        "rho=30": "rho must stay below 13.6 at learning rate 0.1, got 30",
        "seed=5000000000": "seed must be less than 4294967296, got 5000000000",
    }.items(),
)
def test_what_cannot_end_well_is_refused_at_once(work: Path, overrides: str, sentence: str) -> None:
    assert_refused(run_command(work, *overrides.split()), sentence, work)


def test_a_refused_run_deletes_nothing_of_the_users(work: Path) -> None:
    (work / "thesis.txt").write_text("years of work")
    done = run_command(work, "hydra.run.dir=.", "sparsity=2")
    assert done.returncode == 1
    assert [path.name for path in work.iterdir()] == ["thesis.txt"]


def test_a_network_that_cannot_be_exported_still_has_its_report(work: Path) -> None:
    short = ("schedule.dense.epochs=1", "schedule.admm_iterations=1", "schedule.admm_epoch=1")
    done = run_command(
        work, "model._target_=own.data_dependent", "~model.width", "tracking=none", *short,
        "schedule.finetune.epochs=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "model.pt2 was not written" in done.stderr
    (run_dir,) = (work / "outputs" / "runs").iterdir()
    assert (run_dir / "report.json").is_file()
    assert (run_dir / "model.safetensors").is_file()
