import pytest
import torch
import torch.nn.functional as F

from admm_exp.errors import ModelError
from admm_exp.models.lenet import lenet5, small_cnn


def test_lenet5_has_the_430500_weights_of_the_papers():
    model = lenet5(num_classes=10)
    weights = [parameter for name, parameter in model.named_parameters() if name.endswith("weight")]
    assert sum(weight.numel() for weight in weights) == 500 + 25_000 + 400_000 + 5_000


def test_last_pooling_is_the_plain_one_at_28():
    features = torch.randn(2, 50, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(lenet5(num_classes=10).pool2(features), F.max_pool2d(features, 2))


@pytest.mark.parametrize(("build", "size"), [(lenet5, 28), (lenet5, 32), (small_cnn, 8)])
def test_runs_from_its_least_size_on(build, size):
    assert build(num_classes=10)(torch.zeros(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("build", "least", "size"), [(lenet5, 28, 8), (small_cnn, 8, 7)])
def test_too_small_images_are_refused_in_one_sentence(build, least, size):
    message = f"{build.__name__} needs images of at least {least}x{least} pixels, got {size}x{size}"
    with pytest.raises(ModelError, match=message):
        build(num_classes=10)(torch.zeros(2, 1, size, size))


def test_small_cnn_doubles_its_width():
    model = small_cnn(num_classes=10, in_channels=3, width=4)
    assert (model.conv1.out_channels, model.conv2.out_channels) == (4, 8)


def test_small_cnn_refuses_a_width_of_zero():
    with pytest.raises(ModelError, match=r"model\.width must be > 0, got 0"):
        small_cnn(num_classes=10, width=0)
