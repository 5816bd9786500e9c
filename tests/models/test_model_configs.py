"""The files of conf/model against the builders that they name."""

import inspect
from pathlib import Path

import pytest
import torch
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))


def load(file: Path) -> dict[str, object]:
    composed = OmegaConf.create({"model": OmegaConf.load(file)})
    return OmegaConf.to_container(composed, resolve=True)["model"]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request):
    return request.param


def test_every_network_of_the_contract_has_a_file():
    expected = {
        "resnet20",
        "resnet56",
        "resnet110",
        "vgg16_bn",
        "mobilenet_v1",
        "torchvision",
        "timm",
    }
    assert expected <= {file.stem for file in FILES}


def test_file_builds_a_network_for_the_data(file):
    if file.stem == "timm":
        pytest.importorskip("timm")
    config = load(file)
    config.pop("name")
    with torch.device("meta"):
        model = instantiate(config, num_classes=7, in_channels=3).eval()
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_file_states_the_defaults_of_the_builder(file):
    config = load(file)
    parameters = inspect.signature(get_method(config["_target_"])).parameters
    settings = {key: value for key, value in config.items() if key not in {"_target_", "name"}}
    settings.pop("architecture", None)
    assert settings == {key: parameters[key].default for key in settings}
    assert set(parameters) - set(config) == {"num_classes", "in_channels"}


def test_file_opens_with_what_it_is_and_its_command(file):
    first, second, third, *_ = file.read_text().splitlines()
    assert first.startswith("# ")
    assert second.startswith("# admm-exp ")
    assert "parameters" in third


def test_name_is_that_of_the_file(file):
    if file.stem not in {"torchvision", "timm"}:
        assert load(file)["name"] == file.stem
