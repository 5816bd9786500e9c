import pytest
import torch

from admm_exp.errors import ModelError
from admm_exp.models.vgg import vgg16_bn
from admm_exp.pruning.cost.cost import count_cost


def test_cost_is_the_published_one():
    cost = count_cost(vgg16_bn(num_classes=10), torch.zeros(1, 3, 32, 32))
    assert cost.params == 14_710_464 + 2 * 4224 + 512 * 10 + 10
    assert cost.macs == 313_201_664


@pytest.mark.parametrize("size", [32, 64])
def test_runs_at_32_and_above(size):
    assert vgg16_bn(num_classes=7)(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_too_small_images_are_refused_in_one_sentence():
    with pytest.raises(ModelError, match="vgg16_bn needs images of at least 32x32 pixels, got 8x8"):
        vgg16_bn(num_classes=10, in_channels=1)(torch.zeros(2, 1, 8, 8))


def test_has_thirteen_convolutions():
    model = vgg16_bn(num_classes=10)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in model.modules()) == 13
