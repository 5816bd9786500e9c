import pytest
import torch

from admm_exp.errors import ModelError
from admm_exp.models.mobilenet import mobilenet_v1
from admm_exp.pruning.cost.cost import count_cost


@pytest.mark.parametrize(
    ("width_multiplier", "mega_macs", "mega_params"),
    [(1.0, 569, 4.2), (0.75, 325, 2.6), (0.5, 149, 1.3), (0.25, 41, 0.5)],
)
def test_cost_is_that_of_table_6_of_the_paper(width_multiplier, mega_macs, mega_params):
    with torch.device("meta"):
        model = mobilenet_v1(num_classes=1000, width_multiplier=width_multiplier)
    cost = count_cost(model, torch.zeros(1, 3, 224, 224))
    assert cost.macs / 1e6 == pytest.approx(mega_macs, abs=0.5)
    assert round(cost.params / 1e6, 1) == mega_params


@pytest.mark.parametrize("size", [8, 32, 224])
def test_runs_at_small_and_large_images(size):
    assert mobilenet_v1(num_classes=10).eval()(torch.zeros(1, 3, size, size)).shape == (1, 10)


def test_every_block_has_one_depthwise_convolution():
    convolutions = [m for m in mobilenet_v1(10).modules() if isinstance(m, torch.nn.Conv2d)]
    depthwise = [m for m in convolutions if m.groups == m.in_channels > 1]
    assert (len(convolutions), len(depthwise)) == (27, 13)


def test_width_multiplier_zero_is_refused():
    with pytest.raises(ModelError, match=r"model\.width_multiplier must be > 0, got 0"):
        mobilenet_v1(num_classes=10, width_multiplier=0)
