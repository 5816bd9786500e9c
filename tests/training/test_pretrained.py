import os

import pytest
import torch
from torch import nn

from admm_exp.errors import CheckpointError
from admm_exp.training.checkpoint import save_tensors
from admm_exp.training.pretrained import load_pretrained, read_weights


def network(seed=0, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def write_safetensors(path, weights):
    save_tensors(path, weights)


def without_counters(weights):
    return {name: tensor for name, tensor in weights.items() if "num_batches" not in name}


FORMS = {
    "model.safetensors": write_safetensors,
    "bare.pt": lambda path, weights: torch.save(weights, path),
    "old.pth": lambda path, weights: torch.save(
        without_counters(weights), path, _use_new_zipfile_serialization=False
    ),
    "nested.ckpt": lambda path, weights: torch.save({"epoch": 3, "state_dict": weights}, path),
    "parallel.tar": lambda path, weights: torch.save(
        {"model": {f"module.{name}": tensor for name, tensor in weights.items()}}, path
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_loaded_from_every_form(tmp_path, form):
    trained, fresh = network(seed=1), network(seed=2)
    trained[1].running_mean += 1.0
    FORMS[form](tmp_path / form, trained.state_dict())
    load_pretrained(fresh, tmp_path / form)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor)


def test_first_names_that_differ_are_told(tmp_path):
    other = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(5, 9))
    torch.save(other.state_dict(), tmp_path / "other.pt")
    model = network()
    before = model[0].weight.clone()
    told = (
        r"^pretrained=\S+other.pt does not fit the model: 1.weight is \[5, 4, 1, 1\] in the file "
        r"and \[4\] in the model, 1.bias is .*, 1.running_mean is missing in the file .*"
        r", and 3 more$"
    )
    with pytest.raises(CheckpointError, match=told):
        load_pretrained(model, tmp_path / "other.pt")
    assert torch.equal(model[0].weight, before)


class Crafted:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("is_zip", [True, False])
def test_crafted_pickle_is_refused_and_not_executed(tmp_path, is_zip):
    crafted = {"weight": torch.zeros(1), "trap": Crafted(tmp_path / "trap")}
    torch.save(crafted, tmp_path / "crafted.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match=r"crafted\.pt holds more than tensors"):
        read_weights(tmp_path / "crafted.pt")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("absent.pt", None, "No such file"),
        ("absent.safetensors", None, "No such file"),
        ("text.pt", b"weights", "holds more than tensors, or is damaged"),
        ("empty.pt", b"", "damaged or of another format"),
        ("cut.safetensors", b"\x10\0\0\0", "damaged or of another format"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, {}, {"model": {"a": 1}}])
def test_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_weights(tmp_path / "other.pt")
