import pytest
import torch
from torch import nn

from admm_exp.errors import CheckpointError
from admm_exp.results import write_atomically
from admm_exp.training.checkpoint import (
    load_into,
    load_tensors,
    packed,
    save_tensors,
    unpacked,
)

TENSORS = {
    "float": torch.tensor([0.1, float("nan"), -0.0, 1e-45]),
    "half": torch.tensor([0.1, 3.0]).bfloat16(),
    "mask": torch.tensor([[True, False]]),
    "count": torch.tensor(7),
    "double": torch.tensor(1 / 3, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "complex": torch.tensor([1 - 2j]),
    "words": torch.tensor([3], dtype=torch.uint32),
}


def network(width=4, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 3, 1))


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def is_same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_tensors_come_back_bit_by_bit(tmp_path):
    save_tensors(tmp_path / "file", TENSORS)
    read = load_tensors(tmp_path / "file")
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        as_bytes = [t.reshape(-1).view(torch.uint8).tolist() for t in (read[name], tensor)]
        assert as_bytes[0] == as_bytes[1]


def test_parameters_views_and_other_layouts_are_saved_by_value(tmp_path):
    base = torch.arange(24.0).view(1, 2, 3, 4)
    tensors = {
        "parameter": nn.Parameter(base.clone()),
        "channels_last": base.to(memory_format=torch.channels_last),
        "slice": base[..., 1],
        "expanded": torch.ones(1).expand(3),
    }
    save_tensors(tmp_path / "file", tensors)
    assert is_same(load_tensors(tmp_path / "file"), {k: v.detach() for k, v in tensors.items()})


def test_tied_weights_are_saved_under_both_names(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    expected = copy_of(model)
    save_tensors(tmp_path / "file", model.state_dict())
    nn.init.zeros_(model[0].weight)
    load_into(model, tmp_path / "file")
    assert is_same(copy_of(model), expected)
    assert model[1].weight is model[0].weight


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_cut_off_file_is_an_error_that_says_what_to_do(tmp_path, kept):
    path = tmp_path / "file"
    save_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"^{path} is missing or damaged .* run again$"):
        load_tensors(path)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="absent is missing or damaged"):
        load_tensors(tmp_path / "absent")


def test_network_is_loaded_in_place_with_its_buffers(tmp_path):
    model, other = network(seed=0), network(seed=1).to(memory_format=torch.channels_last)
    model(torch.randn(4, 2, 5, 5))  # moves the running statistics
    save_tensors(tmp_path / "file", model.state_dict())
    weight = other[0].weight
    load_into(other, tmp_path / "file")
    assert is_same(copy_of(other), copy_of(model))
    assert other[0].weight is weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"2.weight": torch.zeros(3, 5, 1, 1)}), r"2.weight is \[3, 5, 1, 1\] "),
        (lambda t: t.pop("2.bias"), r"2.bias is missing in the file and \[3\] in the model$"),
        (lambda t: t.update(head=torch.zeros(2)), r"head is \[2\] in the file and missing in the"),
    ],
)
def test_file_of_another_network_is_refused_and_loads_nothing(tmp_path, change, message):
    tensors, model = network(seed=0).state_dict(), network(seed=1)
    change(tensors)
    save_tensors(tmp_path / "file", tensors)
    before = copy_of(model)
    with pytest.raises(CheckpointError, match=f"file does not fit the model: {message}"):
        load_into(model, tmp_path / "file")
    assert is_same(copy_of(model), before)


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_write_that_breaks_off_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"


def test_a_reader_of_the_old_file_never_sees_a_part_of_the_new(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"NEW and longer")
        assert reader.read() == b"old"


@pytest.mark.parametrize("name", ["a" * n for n in range(1, 9)])
def test_values_are_aligned_for_readers_that_map_the_file(name):
    content = packed({name: torch.arange(3.0)})
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert torch.equal(unpacked(content)[0][name], torch.arange(3.0))
