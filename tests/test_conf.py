"""Every YAML composes, binds to the schema and to what it builds."""

import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from admm_exp.admm.groups import count_kept
from admm_exp.app.main import conf_dir
from admm_exp.config.check import check_config
from admm_exp.config.settings import ExperimentConfig
from admm_exp.pruning.budget.layers_file import read_layers

GROUPS = (
    "dataset",
    "model",
    "granularity",
    "metric",
    "method",
    "rho_policy",
    "schedule",
    "tracking",
)
OPTIONS = [(g, p.stem) for g in GROUPS for p in sorted((conf_dir() / g).glob("*.yaml"))]
PRESETS = [p.stem for p in sorted((conf_dir() / "experiment").glob("*.yaml"))]
FILES = sorted(conf_dir().rglob("*.yaml"))


@pytest.fixture(autouse=True)
def hydra_at_conf() -> Iterator[None]:
    GlobalHydra.instance().clear()
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def composed(*overrides: str) -> dict[str, Any]:
    config = compose("config", overrides=list(overrides))
    settings = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(settings, dict)
    return settings


def test_the_checkout_uses_the_top_level_conf() -> None:
    assert conf_dir() == Path(__file__).parent.parent / "conf"


def test_the_preset_for_one_gpu_shares_it_among_processes() -> None:
    overrides = ["hydra/launcher=process_gpu", "hydra.launcher.n_jobs=3"]
    launcher = compose("config", overrides=overrides, return_hydra_config=True).hydra.launcher
    assert pkgutil.resolve_name(launcher["_target_"]).__name__ == "ProcessLauncher"
    assert (launcher.n_jobs, list(launcher.gpus), launcher.threads) == (3, [0], 1)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_binds(group: str, option: str) -> None:
    root = ["dataset.root=somewhere"] if (group, option) == ("dataset", "imagefolder") else []
    settings = composed(f"{group}={option}", *root)
    config = check_config(settings)
    part = getattr(config, group)
    name = part["name"] if isinstance(part, dict) else part.name
    assert name == option or option in {"torchvision", "timm"}  # zoos name their networks
    if isinstance(part, dict):
        target = pkgutil.resolve_name(part["_target_"])
        arguments = {k: v for k, v in part.items() if k not in ("name", "_target_")}
        extra = {"num_classes": 10, "in_channels": 3} if group == "model" else {}
        inspect.signature(target).bind(**arguments, **extra)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_binds(preset: str) -> None:
    check_config(composed(f"+experiment={preset}"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(conf_dir()).as_posix())
def test_every_file_says_what_it_is_and_its_command(path: Path) -> None:
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert re.search(r"# +admm-exp", "\n".join(comment))


def test_the_reference_recipe_has_the_reference_values() -> None:
    config = check_config(composed("+experiment=mobilenet_v1_cifar10"))
    schedule = config.schedule
    assert (config.sparsity, config.rho, config.metric["name"]) == (0.75, 1e-3, "l2_norm")
    assert (schedule.admm_iterations, schedule.admm_epoch, schedule.admm_lr) == (12, 15, 0.01)
    assert (schedule.batch_size, schedule.finetune.epochs, schedule.finetune.lr) == (256, 220, 0.01)
    assert (schedule.finetune.decay, schedule.admm_decay) == ("cosine", "thirds")
    assert (schedule.lr_per, schedule.dense.warmup, schedule.finetune.warmup) == ("epoch", 0, 0)
    assert (schedule.w_step, schedule.admm_warmup) == ("gradient", 0)
    assert (schedule.optimizer.momentum, schedule.optimizer.weight_decay) == (0.9, 2.5e-4)
    assert (config.dataset["name"], config.dataset["img_size"]) == ("cifar10", 224)
    assert config.model["name"] == "mobilenet_v1"


@pytest.mark.parametrize(("ratio", "kept"), [(40, 10_750), (71, 6_050), (150, 2_870)])
def test_the_layers_files_of_lenet_keep_what_their_names_say(ratio: int, kept: int) -> None:
    by_layer = read_layers(conf_dir() / f"experiment/lenet5_{ratio}x.layers.yml", 0.5).by_layer
    numbers = {"conv1": 500, "conv2": 25_000, "fc1": 400_000, "fc2": 5_000}
    assert sum(count_kept(n, by_layer[name]) for name, n in numbers.items()) == kept
    assert 430_500 / kept == pytest.approx(ratio, rel=0.01)


def test_the_lenet_preset_keeps_6050_of_430500_weights() -> None:
    settings = composed("+experiment=lenet5_71x")
    by_layer = read_layers(settings["layers"], 0.5).by_layer
    numbers = {"conv1": 500, "conv2": 25_000, "fc1": 400_000, "fc2": 5_000}
    assert sum(count_kept(n, by_layer[name]) for name, n in numbers.items()) == 6_050
    assert (settings["granularity"]["name"], settings["dataset"]["img_size"]) == ("element", 28)


def test_the_command_line_wins_over_a_schedule() -> None:
    settings = composed("schedule=tinynn", "rho=0.2", "sparsity=0.1")
    assert (settings["rho"], settings["sparsity"]) == (0.2, 0.1)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "ramp"),
        (("schedule=tinynn",), "constant"),
        (("schedule=cifar",), "ramp"),
        (("+experiment=mobilenet_v1_cifar10",), "constant"),
        (("schedule=tinynn", "rho_policy=balancing"), "balancing"),
        (("rho_policy=support", "schedule=cifar"), "support"),
        (("+experiment=resnet56_cifar10", "rho_policy=constant"), "constant"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_schedule_brings_its_rho_policy_and_the_command_line_wins(
    overrides: tuple[str, ...], name: str
) -> None:
    assert composed(*overrides)["rho_policy"]["name"] == name


def test_the_environment_names_the_store_and_an_override_beats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert composed()["tracking_uri"] == "http://127.0.0.1:5000"
    assert composed("tracking_uri=sqlite:///x.db")["tracking_uri"] == "sqlite:///x.db"
