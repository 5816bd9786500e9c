"""Whatever changes the dense network changes its name in the cache, and nothing else does."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.method_toy import config_of
from torch import nn

import admm_exp.experiment.identity
from admm_exp.experiment.identity import dense_key
from admm_exp.models.cifar_resnet import resnet8

composed = cache(config_of)


def key_of(
    *overrides: str, fingerprint: str = "a", device: str = "cpu", model: nn.Module | None = None
) -> str:
    dataset = SimpleNamespace(fingerprint=fingerprint)
    components: Any = SimpleNamespace(
        dataset=dataset, device=torch.device(device), train_fn=key_of, evaluate_fn=key_of
    )
    return dense_key(composed(*overrides), components, model or nn.Linear(2, 2))


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "model=resnet20",
        "model.width=8",
        "dataset.crop_padding=3",
        "schedule.batch_size=32",
        "schedule.dense.epochs=1",
        "schedule.dense.lr=0.2",
        "schedule.dense.decay=step",
        "schedule.dense.warmup=0.5",
        "schedule.lr_per=epoch",
        "schedule.optimizer.name=adamw rho=1 schedule.w_step=proximal",
        "schedule.optimizer.momentum=0.5",
        "+train_fn._target_=a.b",
        "+validate_fn._target_=a.b",
        "schedule.optimizer.weight_decay=0.1",
        "schedule.optimizer.nesterov=false",
    ],
)
def test_a_setting_of_the_dense_network_changes_the_key(override: str) -> None:
    assert key_of(*override.split()) != key_of()


@pytest.mark.parametrize(
    "override", ["sparsity=0.7", "rho=1", "metric=fpgm", "schedule.finetune.epochs=1", "name=x"]
)
def test_a_setting_of_what_follows_leaves_the_key(override: str) -> None:
    assert key_of(override) == key_of()


def test_other_data_another_device_and_other_code_change_the_key() -> None:
    own = resnet8(num_classes=2)
    keys = {key_of(), key_of(fingerprint="b"), key_of(device="cuda"), key_of(model=own)}
    assert len(keys) == 4


@pytest.mark.parametrize("package", ["torch", "torchvision", "admm-exp"])
def test_another_version_changes_the_key(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    before = key_of()
    real = admm_exp.experiment.identity.package_version
    monkeypatch.setattr(
        admm_exp.experiment.identity,
        "package_version",
        lambda name: "9" if name == package else real(name),
    )
    assert key_of() != before
