import pytest
import torch
from torch import nn
from torchvision import models

from admm_exp.models.cifar_resnet import resnet8
from admm_exp.pruning.cost.cost import count_cost, macs_by_layer


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 12), 8 * 3 * 9 * 10 * 12),
        (nn.Conv2d(4, 8, 3, stride=2), (4, 9, 9), 8 * 4 * 9 * 4 * 4),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 5, 5), 6 * 9 * 5 * 5),
        (nn.Conv2d(8, 4, 1, groups=2), (8, 5, 5), 4 * 4 * 5 * 5),
        (nn.Conv1d(2, 3, 5), (2, 10), 3 * 2 * 5 * 6),
        (nn.Linear(7, 5), (7,), 7 * 5),
        (nn.LSTM(5, 7, batch_first=True), (4, 5), 4 * 4 * 7 * (5 + 7)),
        (nn.ReLU(), (3,), 0),
    ],
)
def test_macs_are_those_counted_by_hand(layer, shape, macs):
    cost = count_cost(layer, torch.zeros(1, *shape))
    assert (cost.macs, cost.flops) == (macs, 2 * macs)


@pytest.mark.parametrize(
    ("name", "giga_macs"),
    [
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("mobilenet_v2", 0.301),
        ("vgg16", 15.470),
        ("vit_b_16", 17.564),
    ],
)
def test_macs_are_those_that_torchvision_publishes(name, giga_macs):
    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    macs = count_cost(model, torch.zeros(1, 3, 224, 224)).macs
    assert macs / 1e9 == pytest.approx(giga_macs, abs=5e-4)


def test_batch_size_does_not_change_the_count():
    model = resnet8(num_classes=10)
    one, many = torch.zeros(1, 3, 8, 8), torch.zeros(5, 3, 8, 8)
    assert count_cost(model, one) == count_cost(model, many)


def test_model_is_left_as_it_was():
    model = resnet8(num_classes=10).train()
    model.layer2.eval()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_cost(model, torch.ones(2, 3, 8, 8))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_masked_zeros_lower_nonzero_params_only():
    model = nn.Conv2d(2, 4, 3)
    before = count_cost(model, torch.zeros(1, 2, 5, 5))
    with torch.no_grad():
        model.weight[1] = 0
    after = count_cost(model, torch.zeros(1, 2, 5, 5))
    assert before.nonzero_params - after.nonzero_params == 2 * 9
    assert (before.params, before.macs, before.size_bytes) == (
        after.params,
        after.macs,
        after.size_bytes,
    )


def test_size_holds_parameters_and_buffers():
    model = nn.BatchNorm2d(3)
    counted = count_cost(model, torch.zeros(1, 3, 2, 2))
    assert counted.size_bytes == 4 * 3 * 4 + 8


def test_tied_weights_are_counted_once():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    cost = count_cost(nn.Sequential(first, second), torch.zeros(1, 4))
    assert (cost.params, cost.size_bytes, cost.macs) == (16, 64, 32)


class ReadsValues(nn.Module):
    """A network whose path depends on numbers, which meta tensors lack."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) if x.sum().item() == 0 else x


def test_model_that_needs_values_runs_on_its_own_device():
    model = ReadsValues().train()
    assert count_cost(model, torch.zeros(2, 4)).macs == 16
    assert model.training


def test_fused_attention_is_counted():
    class Plain(nn.TransformerEncoderLayer):
        def forward(self, x):
            assert x.sum().item() == 0
            return super().forward(x)

    fused = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    eager = Plain(8, 2, dim_feedforward=16, batch_first=True)
    assert count_cost(eager, torch.zeros(1, 5, 8)) == count_cost(fused, torch.zeros(1, 5, 8))


def test_wrong_input_shape_raises_the_error_of_the_model():
    with pytest.raises(RuntimeError, match="channels"):
        count_cost(nn.Conv2d(3, 4, 3), torch.zeros(1, 1, 8, 8))


@pytest.mark.gpu
def test_gpu_gives_the_same_count():
    model, sample = resnet8(num_classes=10), torch.zeros(1, 3, 32, 32)
    expected = count_cost(model, sample)
    assert count_cost(model.cuda(), sample.cuda()) == expected


def test_tied_weights_have_the_size_of_one():
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    assert count_cost(tied, torch.zeros(1, 4)).size_bytes == 4 * 16


def test_what_runs_in_training_alone_is_not_counted():
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.auxiliary = nn.Linear(4, 3), nn.Linear(4, 5)

        def forward(self, x):
            return (self.main(x), self.auxiliary(x)) if self.training else self.main(x)

    assert count_cost(Auxiliary().train(), torch.zeros(1, 4)).macs == 12


class Repeated(nn.Module):
    """A network whose attribute decides how much it does."""

    def __init__(self, times: object) -> None:
        super().__init__()
        self.fc, self.times, self.runs = nn.Linear(4, 4), times, []

    def forward(self, x):
        for _ in range(int(self.times)):
            x = self.fc(x)
        return x


def test_an_attribute_that_decides_the_work_is_seen():
    macs = [count_cost(Repeated(n), torch.zeros(1, 4)).macs for n in (1, 2, torch.tensor(3))]
    assert macs == [16, 32, 48]


def test_a_hook_that_decides_the_work_is_seen():
    first, second = Repeated(1), Repeated(1)
    second.register_forward_hook(lambda module, _, output: module.fc(output))
    assert [count_cost(m, torch.zeros(1, 4)).macs for m in (first, second)] == [16, 32]


def test_networks_that_do_the_same_are_followed_once(monkeypatch):
    runs = []
    forward = Repeated.forward
    monkeypatch.setattr(Repeated, "forward", lambda m, x: [runs.append(1), forward(m, x)][1])
    models = [Repeated(4), Repeated(4).train()]
    with torch.no_grad():
        models[1].fc.weight.zero_()
    costs = [count_cost(model, torch.zeros(1, 4)) for model in models]
    by_layer = [macs_by_layer(model, torch.zeros(2, 4)) for model in models]
    assert costs[0].macs == costs[1].macs == by_layer[0]["fc"] == by_layer[1]["fc"] == 64
    assert [cost.nonzero_params for cost in costs] == [20, 4]
    assert len(runs) == 1
