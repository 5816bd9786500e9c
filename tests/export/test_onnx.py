import logging

import pytest
import torch
from support.networks import randomise_
from torch import nn
from torchvision.models import VisionTransformer

from admm_exp.admm.metrics import L2Norm
from admm_exp.errors import ConfigError
from admm_exp.export.onnx import missing_packages, onnx_forward, require_onnx, save_onnx
from admm_exp.models.cifar_resnet import resnet8
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.dependency.norms import counted_channels

MISSING = missing_packages()
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
IMAGES = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@needs_onnx
@pytest.mark.slow
def test_onnx_runtime_computes_what_torch_does_for_any_batch(tmp_path):
    network = randomise_(resnet8(num_classes=5, width=4)).to(memory_format=torch.channels_last)
    (path,) = save_onnx(network, IMAGES[:1], tmp_path)
    forward = onnx_forward(path)
    with torch.inference_mode():
        expected = network.eval()(IMAGES)
    assert torch.allclose(forward(IMAGES), expected, atol=1e-4)
    assert torch.allclose(forward(IMAGES[:1]), expected[:1], atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@needs_onnx
@pytest.mark.slow
def test_a_cut_transformer_whose_norms_count_computes_the_same_in_onnx_runtime(tmp_path):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network = randomise_(VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=5))
    constrained = ConstrainedModel(network, images, sparsity=0.5, metric=L2Norm(), rho=0.1)
    small, _ = constrained.removal().finish(images)
    assert counted_channels(small)["encoder.ln"] == {"layer_norm -1": 32}
    assert small.encoder.ln.normalized_shape == (16,)
    (path,) = save_onnx(small, images[:1], tmp_path)
    with torch.inference_mode():
        expected = small.eval()(images)
    torch.testing.assert_close(onnx_forward(path)(images), expected, rtol=1e-4, atol=1e-5)


@needs_onnx
@pytest.mark.slow
def test_a_file_that_computes_something_else_is_not_left(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("admm_exp.export.onnx.onnx_forward", lambda path: lambda x: x.sum() + 1e3)
    with caplog.at_level(logging.WARNING):
        assert save_onnx(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), IMAGES, tmp_path) == []
    assert "model.onnx was not written: ONNX Runtime differs from torch" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr("admm_exp.export.onnx.PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(
        ConfigError, match=r"^a=1 needs no_such_package: .*\[export\]', or set a=0$"
    ):
        require_onnx("a=1", "a=0")
