"""Residual streams behind norms across channels: cut without loss, trained, exported, reloaded."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from admm_exp import ADMMPruner
from admm_exp.admm.metrics import L2Norm
from admm_exp.errors import ModelError
from admm_exp.export.onnx import missing_packages, onnx_forward, save_onnx
from admm_exp.export.saved_model import load, save_model
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.dependency.norms import counted_channels
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.randomised import randomise_

needs_onnx = pytest.mark.skipif(bool(missing_packages()), reason="onnx is not installed")
STEPS = torch.randn(3, 7, 6)
IMAGES = torch.randn(2, 3, 8, 8)
WORDS = torch.arange(21).view(3, 7) % 11


class HandLayerNorm(nn.Module):
    """As ConvNeXt writes it: channels first, by hand."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(var + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class HandRMSNorm(nn.Module):
    """As language models write it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class FunctionalLayerNorm(HandLayerNorm):
    def forward(self, x):
        x = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias)
        return x.movedim(-1, 1)


class Stream(nn.Module):
    """Tokens with a class token and positions, one block with a norm, classes."""

    def __init__(self, norm=nn.LayerNorm):
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.places = nn.Parameter(torch.zeros(1, 8, 16))
        self.norm, self.last = norm(16), norm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], 1) + self.places
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(self.last(x)[:, 0])


class Language(nn.Module):
    """Tied embedding and head, as GPT-2: the vocabulary stays whole."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 16), nn.Embedding(7, 16)
        self.norm, self.up, self.down = nn.RMSNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x):
        h = self.words(x) + self.places(torch.arange(x.shape[1]))
        return self.head(self.norm(h + self.down(F.silu(self.up(self.norm(h))))))


class Images(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), norm
        self.up, self.down = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.down(F.relu(self.up(self.norm(x))))).mean((2, 3)))


def torch_encoder():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(6, 16), encoder, nn.Linear(16, 5))


NETWORKS = {
    "vit": (Stream, STEPS, "embed"),
    "llama": (lambda: Stream(nn.RMSNorm), STEPS, "embed"),
    "rms_by_hand": (lambda: Stream(HandRMSNorm), STEPS, "embed"),
    "gpt": (Language, WORDS, "words"),
    "convnext_by_hand": (lambda: Images(HandLayerNorm(16)), IMAGES, "stem"),
    "convnext_functional": (lambda: Images(FunctionalLayerNorm(16)), IMAGES, "stem"),
    "group_norm": (lambda: Images(nn.GroupNorm(4, 16)), IMAGES, "stem"),
    "group_norm_1": (lambda: Images(nn.GroupNorm(1, 16)), IMAGES, "stem"),
    "group_norm_16": (lambda: Images(nn.GroupNorm(16, 16)), IMAGES, "stem"),
    "layer_norm_of_images": (lambda: Images(nn.LayerNorm((16, 8, 8))), IMAGES, "stem"),
    "encoder": (torch_encoder, STEPS, "0"),
}


def constrained(name, sparsity=0.5):
    build, inputs, stream = NETWORKS[name]
    torch.manual_seed(0)
    model = randomise_(build())
    found = ConstrainedModel(model, inputs, sparsity=sparsity, metric=L2Norm(), rho=1e-3)
    assert stream in {group.name for group in found.groups}
    return found, inputs


@pytest.mark.parametrize("name", NETWORKS)
def test_stream_is_cut_without_loss_and_trains_on(name):
    found, inputs = constrained(name)
    masked = found.removal().masked().eval()
    small, _ = found.removal().finish(inputs)
    expected = masked(inputs)
    difference = (small.eval()(inputs) - expected).abs().max() / expected.std()
    assert difference < 1e-5
    small.train()(inputs).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_stream_that_was_cut_is_reloaded_and_exported(name, tmp_path):
    found, inputs = constrained(name)
    small, _ = found.removal().finish(inputs)
    written = save_model(small, found.model, {"_target_": "mine"}, inputs, tmp_path)
    expected = small.eval()(inputs)
    loaded = load(tmp_path, model=copy.deepcopy(found.model)).eval()
    assert torch.equal(loaded(inputs), expected)
    assert tmp_path / "model.pt2" in written
    program = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(program(inputs), expected, rtol=1e-4, atol=1e-5)


ELSEWHERE = """
import sys, torch
sys.modules["admm_exp"] = None  # whatever imports it fails
program, inputs, outputs = sys.argv[1:]
made = torch.export.load(program).module()(torch.load(inputs, weights_only=True))
torch.save(made.detach(), outputs)
"""


@pytest.mark.long
def test_stream_whose_norms_count_runs_where_this_package_cannot_be_imported(tmp_path):
    found, inputs = constrained("vit")
    small, _ = found.removal().finish(inputs)
    assert counted_channels(small), "no norm counts, so that nothing is shown"
    save_model(small, found.model, {"_target_": "mine"}, inputs, tmp_path)
    torch.save(inputs, tmp_path / "inputs")
    files = [str(tmp_path / name) for name in ("model.pt2", "inputs", "outputs")]
    command = [sys.executable, "-P", "-c", ELSEWHERE, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    made = torch.load(tmp_path / "outputs", weights_only=True)
    torch.testing.assert_close(made, small.eval()(inputs).detach(), rtol=1e-4, atol=1e-5)


def test_network_that_was_cut_is_cut_again_without_loss():
    found, inputs = constrained("vit")
    small, _ = found.removal().finish(inputs)
    again = ConstrainedModel(small, inputs, sparsity=0.5, metric=L2Norm(), rho=1e-3)
    assert "embed" in {group.name for group in again.groups}
    masked = again.removal().masked().eval()
    smaller, _ = again.removal().finish(inputs)
    assert smaller.embed.out_features == 4
    torch.testing.assert_close(smaller.eval()(inputs), masked(inputs), rtol=1e-4, atol=1e-5)


def test_vocabulary_and_classes_stay_whole():
    found, inputs = constrained("gpt")
    small, _ = found.removal().finish(inputs)
    assert small.words.weight.shape == (11, 8)
    assert small.head.weight is small.words.weight


def test_fused_encoder_does_not_bypass_a_norm_that_counts():
    found, inputs = constrained("encoder")
    masked, (small, _) = found.removal().masked().eval(), found.removal().finish(inputs)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(inputs), masked(inputs), rtol=1e-4, atol=1e-5)


class TwoMeans(nn.Module):
    """One layer takes the mean of two things in one way: a count would hold for both."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        a = self.a(x)
        steps = x.transpose(1, 2).mean(-1)
        return self.fc(self.b(a) * a.mean(-1, keepdim=True)).mean(1) + steps[:, :5]


def test_layer_that_means_several_things_keeps_the_width():
    found = find_groups(randomise_(TwoMeans()), STEPS)
    assert {group.name for group in found.groups} == {"b"}
    reasons = {group.name: group.reason for group in found.kept}
    told = "the TwoMeans takes the mean of it and of what loses nothing in test_streams.py:"
    assert reasons["a"].startswith(told)
    assert reasons["a"].endswith(": it can count one width alone")


class Mixer(nn.Module):
    """Tokens are mixed for every channel with a bias: no removed channel would be zero."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.mix = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(7, 7)
        self.up, self.down, self.fc = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return self.fc(x + self.down(self.up(x).relu()))


def test_tokens_that_are_mixed_keep_the_stream_at_the_layer_that_ties_it():
    found = find_groups(randomise_(Mixer()), STEPS)
    assert {group.name for group in found.groups} == {"up"}
    reasons = {group.name: group.reason for group in found.kept}
    assert reasons["embed"] == "all its channels are tied together in mix (Linear)"


def test_norm_without_gamma_and_beta_keeps_the_width():
    model = nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 8), nn.Linear(8, 5)
    )
    found = find_groups(model, STEPS)
    assert {group.name for group in found.groups} == {"2"}
    assert found.kept[0].reason == "its channels are not zero behind 1 (LayerNorm) once removed"


def test_streams_stay_whole_where_that_is_asked_for():
    model, inputs = randomise_(Stream()), STEPS
    options = {"metric": L2Norm(), "rho": 1e-3, "keep_streams": True}
    found = ConstrainedModel(model, inputs, sparsity=0.5, **options)
    assert [group.name for group in found.groups] == ["up"]
    reasons = {group.name: group.reason for group in found.prunable.kept}
    assert reasons["embed"] == "excluded by keep_streams: norm counts its channels"
    small, _ = found.removal().finish(inputs)
    assert (small.embed.out_features, small.up.out_features) == (16, 16)
    assert type(small.norm) is nn.LayerNorm


def test_a_network_that_is_all_stream_has_nothing_to_prune_without_it():
    model = randomise_(nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 5)))
    with pytest.raises(ModelError, match="keep_streams leaves nothing to prune"):
        ADMMPruner(model, STEPS, sparsity=0.5, rho=0.1, keep_streams=True)


@needs_onnx
@pytest.mark.filterwarnings("ignore")  # the exporter's own use of what is deprecated
@pytest.mark.long  # `.ci/run extras` runs them, with onnx
@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "gpt"])  # it takes no numbers
def test_stream_that_was_cut_computes_the_same_in_onnx_runtime(name, tmp_path):
    found, inputs = constrained(name)
    small, _ = found.removal().finish(inputs)
    (path,) = save_onnx(small, inputs[:1], tmp_path)
    with torch.no_grad():
        expected = small.eval()(inputs)
    torch.testing.assert_close(onnx_forward(path)(inputs), expected, rtol=1e-3, atol=1e-4)
