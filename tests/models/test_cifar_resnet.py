import pytest
import torch

from admm_exp.errors import ModelError
from admm_exp.models.cifar_resnet import resnet8, resnet20, resnet56, resnet110
from admm_exp.pruning.cost.cost import count_cost

PROJECTIONS = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


@pytest.mark.parametrize(
    ("build", "params_without_projections"),
    [(resnet20, 269_722), (resnet56, 853_018), (resnet110, 1_727_962)],
)
def test_params_are_the_published_ones_plus_the_projections(build, params_without_projections):
    model = build(num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == params_without_projections + PROJECTIONS


def test_resnet20_has_the_published_macs_plus_the_projections():
    projections = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
    macs = count_cost(resnet20(num_classes=10), torch.zeros(1, 3, 32, 32)).macs
    assert macs == 40_551_040 + projections


@pytest.mark.parametrize("size", [8, 28, 32])
def test_resnet8_runs_at_every_size(size):
    assert resnet8(num_classes=10, in_channels=1)(torch.zeros(2, 1, size, size)).shape == (2, 10)


def test_stages_are_named_as_in_torchvision():
    model = resnet20(num_classes=10)
    names = {name for name, _ in model.named_modules()}
    assert {"layer1.0.conv1", "layer2.0.downsample.1", "layer3.2.bn2", "fc"} <= names


def test_stages_have_one_two_and_four_widths():
    model = resnet8(num_classes=10, width=6)
    stages = (model.layer1, model.layer2, model.layer3)
    assert [stage[0].conv2.out_channels for stage in stages] == [6, 12, 24]


def test_weights_follow_the_seed():
    torch.manual_seed(3)
    first = resnet8(num_classes=10).state_dict()
    torch.manual_seed(3)
    second = resnet8(num_classes=10).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_convolutions_start_with_the_variance_of_he():
    weight = resnet20(num_classes=10).layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)


def test_width_zero_is_refused():
    with pytest.raises(ModelError, match=r"model\.width must be > 0, got 0"):
        resnet8(num_classes=10, width=0)
