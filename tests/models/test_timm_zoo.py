import sys

import pytest
import torch
from torch import nn

from admm_exp.errors import ModelError
from admm_exp.models.timm_zoo import timm_model

needs_timm = pytest.mark.skipif(
    __import__("importlib").util.find_spec("timm") is None, reason="timm is not installed"
)


@needs_timm
def test_unknown_name_is_answered_with_the_nearest_ones():
    with pytest.raises(ModelError, match=r"'resnet19' is no network of timm, did you mean"):
        timm_model("resnet19", num_classes=10)


@needs_timm
def test_name_like_no_other_is_answered_with_where_to_look():
    with pytest.raises(ModelError, match=r"timm\.list_models"):
        timm_model("xyzzyxyzzy", num_classes=10)


@needs_timm
@pytest.mark.parametrize("channels", [1, 3])
def test_head_and_stem_fit_the_data(channels):
    with torch.device("meta"):
        model = timm_model("resnet18", num_classes=7, in_channels=channels).eval()
        assert model(torch.zeros(1, channels, 32, 32)).shape == (1, 7)


@needs_timm
def test_network_for_one_size_is_built_for_the_size_of_the_images():
    model = timm_model("vit_tiny_patch16_224", num_classes=7, image_size=32).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@needs_timm
def test_size_of_a_network_for_all_sizes_is_refused():
    with pytest.raises(ModelError, match=r"model\.image_size=32 cannot be given to resnet18"):
        timm_model("resnet18", num_classes=7, image_size=32)


@needs_timm
def test_weights_that_cannot_be_loaded_are_refused_in_one_sentence(monkeypatch):
    import timm

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match=r"could not be built \(no route to host\): connect, or"):
        timm_model("resnet18", num_classes=7, pretrained=True)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"pip install 'admm-exp\[timm\]'"):
        timm_model("resnet18", num_classes=7)


@needs_timm
def test_network_is_a_module_with_gradients():
    model = timm_model("mobilenetv3_small_050", num_classes=3)
    assert isinstance(model, nn.Module)
    assert all(p.requires_grad for p in model.parameters())
