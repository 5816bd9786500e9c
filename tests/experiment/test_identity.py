"""Whatever changes the dense network changes its name in the cache, and nothing else does."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.method_toy import config_of
from torch import nn

import admm_exp.experiment.identity
from admm_exp.experiment.environment import package_version
from admm_exp.experiment.identity import PACKAGES, changes_since, dense_key, run_code
from admm_exp.models.cifar_resnet import resnet8

composed = cache(config_of)


@pytest.fixture
def mynets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's that imports another one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mynets.py").write_text("from mylayers import x")
    (tmp_path / "mylayers.py").write_text("x = 1")
    return tmp_path


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
        "schedule.accumulation=2",
        "schedule.clip_norm=1",
        "schedule.epoch_parts=2",
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


@pytest.mark.parametrize("module", ["mynets.py", "mylayers.py"])
@pytest.mark.parametrize(
    "override",
    [
        "model._target_=mynets.net",
        "dataset._target_=mynets.data",
        "+train_fn._target_=mynets.train",
        "+validate_fn._target_=mynets.validate",
    ],
)
def test_code_of_the_users_changes_the_key_with_all_that_it_imports(
    mynets: Path, override: str, module: str
) -> None:
    before = key_of(override)
    assert key_of(override) == before
    (mynets / module).write_text("x = 2")
    assert key_of(override) != before


def test_code_of_the_users_that_comes_later_leaves_the_key(mynets: Path) -> None:
    before = key_of("metric._target_=mynets.Metric")
    (mynets / "mynets.py").write_text("x = 2")
    assert key_of("metric._target_=mynets.Metric") == before


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_precision_changes_the_key(precision: str) -> None:
    assert key_of(f"trainer.precision={precision}") != key_of()


def test_compiling_changes_the_key() -> None:
    assert key_of("trainer.compile=true") != key_of()


def test_a_mode_of_the_compiler_has_a_key_of_its_own_and_the_default_that_of_true() -> None:
    keys = [key_of(f"trainer.compile={m}") for m in ("true", "reduce-overhead", "max-autotune")]
    assert len(set(keys)) == len(keys)
    assert key_of("trainer.compile=default") == keys[0]


def test_the_number_of_processes_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of()
    monkeypatch.setattr(admm_exp.experiment.identity, "world_size", lambda: 2)
    assert key_of() != before


def test_the_content_of_pretrained_weights_changes_the_key(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    first = key_of(f"pretrained={path}")
    path.write_bytes(b"two")
    assert len({key_of(), first, key_of(f"pretrained={path}")}) == 3


def made_report(**others: Any) -> dict[str, Any]:
    return {
        "dataset": {"fingerprint": "a"},
        "environment": {"packages": {name: package_version(name) for name in PACKAGES}},
        "own_code": {},
    } | others


def test_a_result_stands_while_nothing_that_decides_it_changes(mynets: Path) -> None:
    config = config_of("metric._target_=mynets.Metric")
    report = made_report(own_code=run_code(config))
    assert changes_since(report, config, "a") == []
    assert changes_since(report, config, "b") == ["the data changed"]
    (mynets / "mylayers.py").write_text("x = 2")
    assert changes_since(report, config, "a") == ["mylayers was edited"]
    (mynets / "mynets.py").write_text("")
    assert changes_since(report, config, "a") == [
        "mylayers is not used any more",
        "mynets was edited",
    ]


def test_another_version_is_named() -> None:
    report = made_report()
    report["environment"]["packages"]["torch"] = "1.0"
    (change,) = changes_since(report, composed(), "a")
    assert change.startswith("torch was 1.0 and is ")


def test_own_code_that_an_older_report_does_not_note_is_a_change(mynets: Path) -> None:
    report = made_report()
    del report["own_code"]
    assert changes_since(report, composed(), "a") == []
    config = config_of("metric._target_=mynets.Metric")
    assert "mynets was not used, or not noted" in changes_since(report, config, "a")


@pytest.mark.parametrize(
    ("override", "fixed"),
    [("seed=1", "dataset.seed=7"), ("schedule.batch_size=32", "dataset.batch_size=16")],
)
def test_what_a_data_set_does_not_follow_changes_the_key_by_itself(
    override: str, fixed: str
) -> None:
    assert key_of(override, fixed) != key_of(fixed)
