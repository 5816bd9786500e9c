"""The YAML files of the data sets fit their builders."""

import importlib
import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf" / "dataset"
IN_MEMORY = ["cifar10", "cifar100", "digits", "fashion_mnist", "kmnist", "mnist", "shapes"]
NAMES = sorted([*IN_MEMORY, "imagefolder", "imagenet"])


def test_every_yaml_is_tested():
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_the_parameters_of_the_builder(name):
    config = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False)
    module, function = config.pop("_target_").rsplit(".", 1)
    assert config.pop("name") == function == name
    builder = getattr(importlib.import_module(module), function)
    assert list(config) == [key for key in config if key in inspect.signature(builder).parameters]
    assert set(config) == set(inspect.signature(builder).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_batch_size_and_seed_come_from_the_experiment(name):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    experiment = OmegaConf.create({"schedule": {"batch_size": 32}, "seed": 7, "dataset": config})
    assert (experiment.dataset.batch_size, experiment.dataset.seed) == (32, 7)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_opens_with_what_it_is_and_its_command(name):
    what, command = (CONF / f"{name}.yaml").read_text().splitlines()[:2]
    assert what.startswith("# ")
    assert command.startswith(f"# admm-exp dataset={name}")


@pytest.mark.parametrize("name", NAMES)
def test_every_image_set_takes_a_part_of_its_training_images(name):
    assert OmegaConf.load(CONF / f"{name}.yaml").train_images is None
