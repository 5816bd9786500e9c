import urllib.error

import pytest
import torch
from torch import nn
from torchvision import models

from admm_exp.errors import ModelError
from admm_exp.models.torchvision_zoo import torchvision_model


@pytest.fixture
def offline_weights(monkeypatch):
    """Serve weights from a fresh network of the same name instead of from the web."""

    def serve(name, **options):
        fresh = models.get_model(name, weights=None, **options).state_dict()
        enum = models.get_model_weights(name)
        monkeypatch.setattr(enum, "get_state_dict", lambda *_, **__: fresh)
        return fresh

    return serve


def test_unknown_name_is_answered_with_the_nearest_ones():
    with pytest.raises(ModelError, match=r"'resnet49' is no classifier .*did you mean .*resnet"):
        torchvision_model("resnet49", num_classes=10)


def test_name_like_no_other_is_answered_with_where_to_look():
    with pytest.raises(ModelError, match=r"torchvision\.models\.list_models"):
        torchvision_model("xyzzy", num_classes=10)


def test_detector_is_no_classifier():
    with pytest.raises(ModelError, match="is no classifier"):
        torchvision_model("fasterrcnn_resnet50_fpn", num_classes=10)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "vit_b_32"])
def test_head_has_the_classes_of_the_data(name):
    with torch.device("meta"):
        logits = torchvision_model(name, num_classes=7).eval()(torch.zeros(1, 3, 224, 224))
    assert logits.shape == (1, 7)


def test_stem_takes_grey_images():
    model = torchvision_model("resnet18", num_classes=10, in_channels=1).eval()
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    assert model.conv1.stride == (2, 2)
    assert model.conv1.bias is None


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name):
    with torch.device("meta"):
        model = torchvision_model(name, num_classes=10)
        logits = model.train()(torch.zeros(2, 3, 299, 299))
    assert logits.shape == (2, 10)
    assert not [key for key in model.state_dict() if key.lower().startswith("aux")]


def test_weights_are_kept_and_only_the_head_is_replaced(offline_weights):
    trained = offline_weights("resnet18")
    model = torchvision_model("resnet18", num_classes=10, weights="DEFAULT")
    own = model.state_dict()
    assert model.fc.out_features == 10
    assert all(torch.equal(own[key], trained[key]) for key in own if not key.startswith("fc."))


def test_trained_head_stays_for_the_same_classes(offline_weights):
    trained = offline_weights("resnet18")
    model = torchvision_model("resnet18", num_classes=1000, weights="IMAGENET1K_V1")
    assert torch.equal(model.fc.weight, trained["fc.weight"])


def test_head_of_one_by_one_convolution_is_replaced(offline_weights):
    offline_weights("squeezenet1_1")
    model = torchvision_model("squeezenet1_1", num_classes=10, weights="DEFAULT")
    assert isinstance(model.classifier[1], nn.Conv2d)
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_auxiliary_heads_of_the_weights_are_removed(offline_weights):
    with torch.device("meta"):
        offline_weights("googlenet", aux_logits=True, init_weights=False)
        model = torchvision_model("googlenet", num_classes=10, weights="DEFAULT")
    assert (model.aux1, model.aux2) == (None, None)


def test_auxiliary_head_of_inception_weights_is_removed(offline_weights):
    with torch.device("meta"):
        offline_weights("inception_v3", aux_logits=True, init_weights=False)
        model = torchvision_model("inception_v3", num_classes=10, weights="DEFAULT")
        assert model.train()(torch.zeros(2, 3, 299, 299)).shape == (2, 10)


def test_weights_refuse_grey_images():
    with pytest.raises(ModelError, match="needs images of 3 channels, got 1"):
        torchvision_model("resnet18", num_classes=10, weights="DEFAULT", in_channels=1)


def test_unknown_weights_are_answered_with_the_known_ones():
    with pytest.raises(ModelError, match=r"'V9' is not known for resnet50.*IMAGENET1K_V2, DEFAULT"):
        torchvision_model("resnet50", num_classes=10, weights="V9")


def test_failed_download_says_what_to_fetch(monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(models.get_model_weights("resnet18"), "get_state_dict", fail)
    with pytest.raises(ModelError, match=r"no route to host.*resnet18-.*\.pth"):
        torchvision_model("resnet18", num_classes=10, weights="DEFAULT")
