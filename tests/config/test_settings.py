from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from support.composed import composed

from admm_exp.config.check import check_arguments, check_config
from admm_exp.config.hashes import _decisive, config_hash, dataset_settings, group_hash
from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import ConfigError
from admm_exp.results import WEIGHTS


def settings_of(*overrides: str) -> dict[str, Any]:
    settings = OmegaConf.to_container(composed(*overrides), resolve=True, enum_to_str=True)
    assert isinstance(settings, dict)
    return settings  # type: ignore[return-value]


def config_of(*overrides: str) -> ExperimentConfig:
    return check_config(settings_of(*overrides))


@pytest.mark.parametrize(
    "override", ["rho=0.1", "sparsity=0.4", "metric=fpgm", "seed=1", "schedule.admm_epoch=3"]
)
def test_what_decides_the_result_changes_the_hash(override: str) -> None:
    assert config_hash(config_of(override)) != config_hash(config_of())


@pytest.mark.parametrize(
    "override",
    [
        *("name=mine", "experiment_name=x", "tracking=none", "tracking_uri=sqlite:///x.db"),
        *("trainer.devices=2", "trainer.patience_seconds=5", "keep_streams=false"),
    ],
)
def test_where_a_run_is_kept_leaves_the_hash(override: str) -> None:
    assert config_hash(config_of(override)) == config_hash(config_of())


@pytest.mark.parametrize(
    "override",
    ["schedule.accumulation=2", "schedule.clip_norm=1.0", "schedule.epoch_parts=2"],
)
def test_settings_that_came_later_change_the_hash_where_they_change_anything(override: str) -> None:
    assert config_hash(config_of(override)) != config_hash(config_of())
    neutral = config_of(
        "schedule.accumulation=1", "schedule.clip_norm=null", "schedule.epoch_parts=1"
    )
    schedule = config_of().schedule
    assert (schedule.accumulation, schedule.clip_norm, schedule.epoch_parts) == (1, None, 1)
    assert config_hash(neutral) == config_hash(config_of())


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["schedule.accumulation=0"], "schedule.accumulation must be at least 1, got 0"),
        (
            ["trainer.compile=fast"],
            "one of true, false, default, reduce-overhead, max-autotune, got",
        ),
        (["trainer.compile=[1]"], r"trainer.compile must be one of true, .*, got \[1\]"),
        (["schedule.clip_norm=0"], "schedule.clip_norm must be greater than 0.0, got 0.0"),
        (
            ["schedule.accumulation=2", "+train_fn._target_=mine.train"],
            "train_fn steps by itself: set schedule.accumulation=2 to 1",
        ),
    ],
)
def test_steps_that_cannot_be_are_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config_of(*overrides)


def test_where_the_data_lie_leaves_the_hash() -> None:
    near, far = (config_of("dataset=cifar10", f"dataset.root={r}") for r in ("a", "b"))
    assert config_hash(near) == config_hash(far)


def test_how_many_processes_decode_leaves_the_hash() -> None:
    few, many = (
        config_of("dataset=imagefolder", "dataset.root=a", f"dataset.workers={n}") for n in (1, 9)
    )
    assert config_hash(few) == config_hash(many)


@pytest.mark.parametrize("override", ["dataset.crop_padding=0", "dataset.batch_size=32"])
def test_what_a_network_sees_of_the_data_is_kept(override: str) -> None:
    assert dataset_settings(config_of(override)) != dataset_settings(config_of())


def test_an_edited_layers_file_changes_the_hash(tmp_path: Path) -> None:
    layers = tmp_path / "layers.yaml"
    layers.write_text("sparsity: {default: 0.5}\n")
    before = config_hash(config_of(f"layers={layers}"))
    layers.write_text("sparsity: {default: 0.6}\n")
    assert config_hash(config_of(f"layers={layers}")) != before


def test_a_group_is_what_differs_by_seed_alone() -> None:
    assert group_hash(config_of("seed=1")) == group_hash(config_of("seed=2"))
    assert group_hash(config_of("rho=1")) != group_hash(config_of("rho=2"))


@pytest.mark.parametrize(
    "override",
    [
        "budget.macs=0.5",
        "budget.params=0.3",
        "budget.latency=0.6",
        "channel_multiple=8",
        "keep_streams=true",
    ],
)
def test_what_counts_channels_is_refused_below_them(override: str) -> None:
    config_of(override)
    with pytest.raises(ConfigError, match=rf"^{override} counts whole channels: .* got element$"):
        config_of(override, "granularity=element")


@pytest.mark.parametrize(("cores", "most"), [(2, 16), (8, 32), (None, 16)])
def test_four_processes_a_core_are_the_most(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, most: int
) -> None:
    monkeypatch.setattr("admm_exp.config.check.os.cpu_count", lambda: cores)
    config_of(f"trainer.devices={most}")
    with pytest.raises(ConfigError, match=rf"^trainer.devices must be at most {most} on this"):
        config_of(f"trainer.devices={most + 1}")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["budget.macs=0.5", "sparsity=0.3"], r"^budget.macs=0.5 chooses the sparsities: leave "),
        (["budget.latency=0.6", "sparsity=0.3"], r"^budget.latency=0.6 chooses the sparsities: "),
        (["budget.macs=0.5", "++sparsity=0.3"], r"^budget.macs=0.5 chooses the sparsities: leave "),
        (["budget.macs=0.5", "budget.latency_batch=8"], r"^budget.latency_batch=8 is what budget"),
        (["pretrained=FILE", "schedule.dense.epochs=3"], r"leave schedule.dense.epochs out$"),
    ],
)
def test_what_would_not_be_used_is_refused_if_it_was_typed(
    tmp_path: Path, typed: list[str], sentence: str
) -> None:
    (tmp_path / "w.pt").touch()
    overrides = [word.replace("FILE", str(tmp_path / "w.pt")) for word in typed]
    check_config(settings_of(*overrides), overrides[:1])  # the other one may be a preset's
    with pytest.raises(ConfigError, match=sentence):
        check_config(settings_of(*overrides), overrides)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["budget.latency=1.0"], r"^budget.latency must be in \(0, 1\), got 1.0$"),
        (["budget.latency_batch=0"], r"^budget.latency_batch must be at least 1, got 0$"),
        (["budget.latency=0.6", "budget.macs=0.5"], r"one of macs, latency, got 2 of them$"),
        (["budget.latency=0.6", "budget.params=0.5"], r"one of params, latency, got 2 of them$"),
    ],
)
def test_a_latency_budget_is_refused_as_the_others_are(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config_of(*overrides)


def test_pretrained_weights_change_the_hash_by_what_they_hold(tmp_path: Path) -> None:
    hashes = []
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
        hashes.append(config_hash(config_of(f"pretrained={tmp_path / name}")))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_run_to_start_from_changes_the_hash_by_the_network_it_holds(tmp_path: Path) -> None:
    hashes = []
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / WEIGHTS).write_bytes(content)
        hashes.append(config_hash(config_of(f"from_run={tmp_path / name}")))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_setting_younger_than_known_hashes_counts_where_it_changes_anything() -> None:
    assert config_hash(config_of("keep_streams=true")) != config_hash(config_of())
    assert "keep_streams" not in _decisive(config_of())


def test_pretrained_weights_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^pretrained must be a file .*, got nowhere.pt$"):
        config_of("pretrained=nowhere.pt")


@pytest.mark.parametrize(
    "key", ["schedule.dense.lr", "schedule.admm_lr", "schedule.optimizer.momentum"]
)
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_number_that_is_not_finite_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} must be .*, got {value}"):
        config_of(f"{key}={value}")


def test_layers_from_a_device_that_never_ends_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^layers must be a file, got /dev/zero, which is a dev"):
        config_of("layers=/dev/zero")


@pytest.mark.parametrize("value", ["16.0", "true", "'16'"])
def test_an_argument_that_is_counted_is_a_whole_number(value: str) -> None:
    def build(img_size: int | None) -> None: ...

    with pytest.raises(ConfigError, match=r"^dataset.img_size must be a valid integer, got "):
        check_arguments("dataset", build, {"img_size": yaml.safe_load(value)})
    check_arguments("dataset", build, {"img_size": 16})


@pytest.mark.parametrize(
    ("given", "compile_mode", "kept"),
    [
        ("true", "default", True),
        ("1", "default", True),
        ("default", "default", True),
        ("false", None, False),
        ("0", None, False),
        ("reduce-overhead", "reduce-overhead", "reduce-overhead"),
    ],
)
def test_compiling_is_yes_no_or_a_mode_of_the_compiler(
    given: str, compile_mode: str | None, kept: bool | str
) -> None:
    trainer = config_of(f"trainer.compile={given}").trainer
    assert trainer.compile_mode == compile_mode
    assert repr(trainer.compile) == repr(kept)
