import io
import json
import os
import pickletools
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.networks import Gated, build, randomise_
from torch import nn
from torchvision import models

import admm_exp
from admm_exp.admm.metrics import Random
from admm_exp.errors import CheckpointError, ModelError
from admm_exp.export.saved_model import _count_, load, save_model
from admm_exp.models.cifar_resnet import resnet8
from admm_exp.models.lenet import small_cnn
from admm_exp.models.mobilenet import mobilenet_v1
from admm_exp.models.torchvision_zoo import torchvision_model
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.dependency.norms import COUNTED
from admm_exp.results import LAYERS, PROGRAM, STRUCTURE, WEIGHTS

OWN = "admm_exp.models"
RESNET8 = {"_target_": f"{OWN}.cifar_resnet.resnet8", "num_classes": 5, "width": 8}
IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))

RUN_ELSEWHERE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("admm_exp", "networks"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import torch
program = torch.export.load(sys.argv[1]).module()
inputs = torch.load(sys.argv[2], weights_only=True)
outputs = [program(inputs[:size]) for size in (1, 3, len(inputs))]
assert "admm_exp" not in sys.modules
torch.save(outputs, sys.argv[3])
"""


def pruned(dense, inputs=IMAGES):
    randomise_(dense)
    constrained = ConstrainedModel(dense, inputs, sparsity=0.5, metric=Random(0), rho=1.0)
    return constrained.removal().finish(inputs)[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A saved resnet8: its folder and the small network."""
    folder = tmp_path_factory.mktemp("run")
    dense = resnet8(num_classes=5, width=8)
    small = pruned(dense)
    save_model(small, dense, RESNET8, IMAGES, folder)
    return folder, small


@pytest.fixture
def crafted(run, tmp_path):
    """Copy the run with another model.json."""

    def craft(**changes):
        for name in (WEIGHTS, PROGRAM):
            (tmp_path / name).write_bytes((run[0] / name).read_bytes())
        structure = json.loads((run[0] / STRUCTURE).read_text()) | changes
        (tmp_path / STRUCTURE).write_text(json.dumps(structure))
        return tmp_path

    return craft


def save_small(folder, builder, dense, inputs=IMAGES):
    small = pruned(dense, inputs)
    save_model(small, dense, builder, inputs, folder)
    return small


def is_same(left, right):
    one, other = left.state_dict(), right.state_dict()
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_three_files_are_written_and_nothing_else(run, tmp_path):
    small = run[1]
    dense = resnet8(num_classes=5, width=8)
    files = save_model(small, dense, RESNET8, IMAGES, tmp_path / "new")
    assert {file.name for file in files} == {PROGRAM, STRUCTURE, WEIGHTS}
    assert set((tmp_path / "new").iterdir()) == set(files)


@pytest.mark.long
def test_program_runs_without_this_package_at_any_batch_size(run, tmp_path):
    folder, small = run
    torch.save(IMAGES, tmp_path / "inputs")
    files = [str(folder / PROGRAM), str(tmp_path / "inputs"), str(tmp_path / "outputs")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN_ELSEWHERE, *files],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    small.eval()
    for outputs in torch.load(tmp_path / "outputs", weights_only=True):
        with torch.no_grad():
            torch.testing.assert_close(outputs, small(IMAGES[: len(outputs)]))


def is_pickle(content):
    try:
        return any(code.name == "STOP" for code, _, _ in pickletools.genops(content))
    except Exception:
        return False


def test_detector_knows_a_pickle_when_it_sees_one():
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        assert is_pickle(archive.read(name))


def test_no_file_holds_a_pickle(run):
    folder, _ = run
    with zipfile.ZipFile(folder / PROGRAM) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents |= {name: (folder / name).read_bytes() for name in (WEIGHTS, STRUCTURE)}
    assert len(contents) > 10
    for name, content in contents.items():
        assert not name.endswith((".pkl", ".pickle")), name
        assert not content.startswith(b"PK\x03\x04"), name
        if "/weights/weight_" not in name:  # raw numbers may look like anything
            assert not content.startswith(b"\x80"), name
            assert not is_pickle(content), name


def test_program_weights_are_raw_numbers(run):
    folder, small = run
    with zipfile.ZipFile(folder / PROGRAM) as archive:
        raw = {archive.read(n) for n in archive.namelist() if "/weights/weight_" in n}
    expected = {tensor.contiguous().numpy().tobytes() for tensor in small.state_dict().values()}
    assert raw == expected


def test_loaded_network_is_the_small_one_bit_for_bit(run):
    folder, small = run
    loaded = load(folder)
    assert loaded.training
    assert is_same(loaded, small)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(IMAGES), small.eval()(IMAGES))


def test_load_is_part_of_the_package(run):
    assert is_same(admm_exp.load(str(run[0])), run[1])


def test_loaded_network_trains_on(run):
    network = load(run[0])
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    F.cross_entropy(network(IMAGES), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    pairs = zip(network.parameters(), before, strict=True)
    assert all(not torch.equal(after, old) for after, old in pairs)


def test_loaded_network_can_be_pruned_again(run):
    network = load(run[0])
    constrained = ConstrainedModel(network, IMAGES, sparsity=0.5, metric=Random(0), rho=1.0)
    smaller, _ = constrained.removal().finish(IMAGES)
    assert (network.conv1.out_channels, smaller.conv1.out_channels) == (4, 2)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # of torch 2.11's own load
def test_heads_that_are_gone_stay_gone(tmp_path):
    tokens = torch.randn(4, 5, 12, generator=torch.Generator().manual_seed(0))

    def build_encoder():
        layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True)
        return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(12, 5))

    small = save_small(tmp_path, {"_target_": "own.encoder"}, build_encoder(), tokens)
    loaded = load(tmp_path, build_encoder())
    assert is_same(loaded, small)
    program = torch.export.load(tmp_path / PROGRAM).module()
    with torch.inference_mode():  # where torch's own layers would take their fused form
        expected = small.eval()(tokens)
        assert torch.equal(loaded.eval()(tokens), expected)
        torch.testing.assert_close(program(tokens), expected)
    attention = loaded[0].layers[1].self_attn
    assert (attention.num_heads, attention.head_dim, attention.embed_dim) == (2, 3, 12)


@pytest.mark.parametrize(
    ("builder", "dense", "shape"),
    [
        (
            {
                "_target_": f"{OWN}.mobilenet.mobilenet_v1",
                "num_classes": 5,
                "width_multiplier": 0.25,
            },
            lambda: mobilenet_v1(5, width_multiplier=0.25),
            (3, 16, 16),
        ),
        (
            {"_target_": f"{OWN}.lenet.small_cnn", "num_classes": 5},
            lambda: small_cnn(5),
            (1, 8, 8),
        ),
        pytest.param(
            {
                "_target_": f"{OWN}.torchvision_zoo.torchvision_model",
                "architecture": "mobilenet_v3_small",
                "num_classes": 5,
                "weights": None,
            },
            lambda: torchvision_model("mobilenet_v3_small", 5),
            (3, 32, 32),
            marks=pytest.mark.long,
        ),
    ],
    ids=["depthwise", "flatten", "torchvision"],
)
def test_every_kind_of_own_network_is_rebuilt(tmp_path, builder, dense, shape):
    inputs = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    small = save_small(tmp_path, builder, dense(), inputs)
    loaded = load(tmp_path)
    assert is_same(loaded, small)
    assert [str(m) for m in loaded.modules()] == [str(m) for m in small.modules()]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(inputs), small.eval()(inputs))


@pytest.mark.parametrize(
    "architecture", ["resnet18", pytest.param("googlenet", marks=pytest.mark.long)]
)
def test_pretrained_network_is_rebuilt_without_a_download(tmp_path, monkeypatch, architecture):
    downloads = []

    def weights_of(url, *args, **kwargs):
        downloads.append(url)
        options = {"init_weights": False} if architecture == "googlenet" else {}
        return models.get_model(architecture, weights=None, **options).state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", weights_of)
    arguments = {"architecture": architecture, "num_classes": 5, "weights": "DEFAULT"}
    dense = torchvision_model(**arguments)
    assert len(downloads) == 1
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    builder = {"_target_": f"{OWN}.torchvision_zoo.torchvision_model", **arguments}
    small = save_small(tmp_path, builder, dense, inputs)
    loaded = load(tmp_path)
    assert len(downloads) == 1
    with torch.no_grad():
        assert torch.equal(loaded.eval()(inputs), small.eval()(inputs))


def test_foreign_network_needs_to_be_passed(tmp_path):
    small = save_small(tmp_path, {"_target_": "my_project.nets.Gated"}, Gated())
    with pytest.raises(ModelError, match=r"comes from my_project\.nets\.Gated: build it and pass"):
        load(tmp_path)
    given = Gated().eval()
    loaded = load(tmp_path, model=given)
    assert is_same(loaded, small)
    assert loaded.training
    assert given.conv.out_channels == 12
    with torch.no_grad():
        assert torch.equal(loaded.eval()(IMAGES), small.eval()(IMAGES))


def test_network_without_builder_needs_to_be_passed(tmp_path):
    small = save_small(tmp_path, {}, Gated())
    with pytest.raises(ModelError, match="comes from elsewhere"):
        load(tmp_path)
    assert is_same(load(tmp_path, model=Gated()), small)


def test_another_network_than_the_one_that_was_cut_is_refused(run):
    with pytest.raises(CheckpointError, match=r"does not fit the model it was cut from: [^\n]+$"):
        load(run[0], model=build("mlp")[0])


def test_saving_leaves_the_network_as_it_was(tmp_path):
    dense = resnet8(num_classes=5, width=8)
    small = pruned(dense).train()
    before = {key: value.clone() for key, value in small.state_dict().items()}
    save_model(small, dense, RESNET8, IMAGES, tmp_path)
    assert all(module.training for module in small.modules())
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


def test_program_is_of_evaluation_mode_whatever_the_mode_of_the_network(tmp_path):
    dense = resnet8(num_classes=5, width=8)
    small = pruned(dense).train()
    save_model(small, dense, RESNET8, IMAGES, tmp_path)
    outputs = torch.export.load(tmp_path / PROGRAM).module()(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(outputs, small.eval()(IMAGES))


TARGETS = [
    "os.system",
    "os.mkdir",
    "builtins.exec",
    "builtins.eval",
    "subprocess.run",
    "torch.load",
    "",
    "resnet8",
    "admm_exp.export.saved_model.load",
    "admm_exp.models.os",
    "admm_exp.models.torchvision_zoo.difflib",
    "admm_exp.models.cifar_resnet.__builtins__",
    "admm_exp.models.cifar_resnet.__builtins__.exec",
    "admm_exp.models.cifar_resnet.__loader__",
    "admm_exp.models.cifar_resnet._stage",
    "admm_exp.models.cifar_resnet.nn",
    "admm_exp.models.cifar_resnet.nn.Sequential",
    "admm_exp.models.cifar_resnet.Tensor",
    "admm_exp.models.cifar_resnet.kaiming_init_",
    "admm_exp.models.cifar_resnet.require_positive",
    "admm_exp.models.torchvision_zoo.Any",
    "admm_exp.models..os.system",
    "admm_exp.models.../os.system",
    "admm_exp.models.cifar_resnet.",
    "admm_exp.models.nowhere.resnet8",
    "admm_exp.models.cifar_resnet.resnet9",
    "admm_exp.modelsx.os.system",
]


@pytest.mark.parametrize("target", TARGETS)
def test_crafted_target_executes_nothing(crafted, tmp_path, monkeypatch, target):
    victim = tmp_path / "victim"
    called = []
    for name in ("os.system", "os.mkdir", "builtins.exec", "builtins.eval", "subprocess.run"):
        module, _, function = name.rpartition(".")
        if name == target:
            monkeypatch.setattr(f"{module}.{function}", lambda *a, **k: called.append((a, k)))
    folder = crafted(builder={"_target_": target, "command": f"touch {victim}"})
    with pytest.raises((ModelError, CheckpointError), match=r"^[^\n]+$"):
        load(folder)
    assert not called
    assert not victim.exists()


def test_private_function_of_our_own_is_not_called_even_if_it_builds_a_network(crafted):
    stage = {"in_channels": 3, "out_channels": 4, "blocks": 1, "stride": 1}
    with pytest.raises(ModelError, match=r"comes from admm_exp\.models\.cifar_resnet\._stage"):
        load(crafted(builder={"_target_": f"{OWN}.cifar_resnet._stage", **stage}))


@pytest.mark.parametrize("name", ["require_positive", "kaiming_init_", "BasicBlock", "Tensor"])
def test_what_a_models_file_only_imports_is_not_called(crafted, monkeypatch, name):
    called = []
    monkeypatch.setattr(f"{OWN}.vgg.{name}", lambda **k: called.append(k), raising=False)
    with pytest.raises(CheckpointError, match=rf"vgg\.{name} is none of ours"):
        load(crafted(builder={"_target_": f"{OWN}.vgg.{name}"}))
    assert not called


@pytest.mark.parametrize(
    "builder",
    [
        {**RESNET8, "num_classes": "many"},
        {**RESNET8, "num_classes": -1},
        {**RESNET8, "depth": 3},
        {"_target_": f"{OWN}.cifar_resnet.resnet8"},
        "resnet8",
        None,
    ],
    ids=str,
)
def test_arguments_that_build_nothing_are_a_checkpoint_error(crafted, builder):
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load(crafted(builder=builder))


@pytest.mark.parametrize(
    "attributes",
    [
        {"conv1": {"forward": 3}},
        {"conv1": {"__class__": 3}},
        {"conv1": {"out_channels": "4"}},
        {"conv1": {"out_channels": {"a": 1}}},
        {"conv1": {"padding_mode": 3}},
        {"nowhere": {"out_channels": 4}},
        {"conv1": 3},
        {"conv1.weight": {"data": 3}},
    ],
    ids=str,
)
def test_attribute_that_is_no_size_is_refused(crafted, attributes):
    with pytest.raises(CheckpointError, match=r"does not fit the model it was cut from: [^\n]+$"):
        load(crafted(attributes=attributes))


def test_missing_attributes_are_a_checkpoint_error(crafted):
    folder = crafted()
    (folder / STRUCTURE).write_text('{"builder": {}}')
    with pytest.raises(CheckpointError, match=r"model\.json is missing or damaged"):
        load(folder)


@pytest.mark.parametrize("name", [STRUCTURE, WEIGHTS])
def test_missing_file_is_a_checkpoint_error(crafted, name):
    folder = crafted()
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        load(folder)


@pytest.mark.parametrize("name", [STRUCTURE, WEIGHTS])
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:50],
        lambda b: b[:-7],
        lambda b: b"\x80\x02" + b[2:],
        lambda b: b[::-1],
    ],
    ids=["empty", "head", "tail", "start", "reversed"],
)
def test_damaged_file_is_a_checkpoint_error(crafted, name, damage):
    folder = crafted()
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        load(folder)


def test_weights_of_another_run_are_a_checkpoint_error(crafted, tmp_path):
    folder = crafted()
    other = save_small(tmp_path / "other", {}, Gated())
    (folder / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    assert other.conv.out_channels == 6
    with pytest.raises(CheckpointError, match=r"does not fit the model it was cut from: [^\n]+$"):
        load(folder)


@pytest.mark.parametrize("name", [STRUCTURE, WEIGHTS, LAYERS])
def test_a_single_flipped_bit_is_refused(tmp_path, name):
    (tmp_path / LAYERS).write_text("sparsity: {default: 0.5}\n")
    small = save_small(tmp_path, {}, Gated())
    assert is_same(load(tmp_path, Gated()), small)
    path = tmp_path / name
    content = path.read_bytes()
    for at in np.random.default_rng(0).choice(len(content), 20):
        flipped = bytearray(content)
        flipped[at] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"is (missing or )?damaged|does not fit"):
            load(tmp_path, Gated())


def test_a_run_of_an_earlier_version_has_no_checksums_and_is_loaded(tmp_path):
    small = save_small(tmp_path, {}, Gated())
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    del structure["checksums"]
    (tmp_path / STRUCTURE).write_text(json.dumps(structure))
    assert is_same(load(tmp_path, Gated()), small)


@pytest.mark.parametrize("count", [True, 2.0, "2", 0])
def test_a_count_of_channels_is_a_whole_number(count):
    key = next(iter(COUNTED))
    with pytest.raises(AttributeError, match="cannot count"):
        _count_(nn.Sequential(nn.LayerNorm(4)), {"0": {key: count}})
