import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from admm_exp.app.build import build_components
from admm_exp.app.main import conf_dir
from admm_exp.config.check import check_config
from admm_exp.config.settings import ExperimentConfig
from admm_exp.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "instead"), [("export=onnx", "export=none"), ("inference=all", "inference=eager")]
)
def test_what_needs_a_missing_package_is_refused_before_training(
    override: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admm_exp.export.onnx.PACKAGES", ("no_such_package",))
    GlobalHydra.instance().clear()
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=[override])
    settings = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    config = check_config(settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"^{override} needs no_such_package.* {instead}$"):
        build_components(config)
