import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from admm_exp.app.build import build_materials
from admm_exp.app.main import conf_dir
from admm_exp.config import ExperimentConfig
from admm_exp.errors import ConfigError
from admm_exp.results import History
from admm_exp.schema import check_config


def test_an_export_that_cannot_be_written_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("admm_exp.onnx_file.PACKAGES", ("no_such_package",))
    GlobalHydra.instance().clear()
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=["export=onnx"])
    settings = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    config = check_config(settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="export=onnx needs no_such_package"):
        build_materials(config, History())
