import random

import numpy as np
import pytest
import torch
from torch import nn

from admm_exp.training.batch_norm import recalibrate_


def batches_of(*sizes, shape=(3, 4, 4)):
    generator = torch.Generator().manual_seed(5)
    return [(3 + 2 * torch.randn(n, *shape, generator=generator), torch.zeros(n)) for n in sizes]


def statistics(x):
    """Mean and unbiased variance of each channel of one batch, in float64."""
    rows = x.double().transpose(0, 1).flatten(1)
    return rows.mean(1), rows.var(1)


def test_statistics_are_the_plain_mean_over_the_batches():
    model, batches = nn.Sequential(nn.BatchNorm2d(3)), batches_of(4, 4, 2)
    model(torch.full((2, 3, 4, 4), 100.0))  # leaves a trace that must go
    recalibrate_(model, batches)
    means, variances = zip(*(statistics(x) for x, _ in batches), strict=True)
    assert torch.allclose(model[0].running_mean.double(), torch.stack(means).mean(0), atol=1e-5)
    assert torch.allclose(model[0].running_var.double(), torch.stack(variances).mean(0), atol=1e-4)


def test_deeper_layer_sees_what_the_first_one_normalises_with_batch_statistics():
    model, batches = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)), batches_of(8, 8)
    recalibrate_(model, batches)
    assert torch.allclose(model[1].running_mean, torch.zeros(3), atol=1e-5)
    assert torch.allclose(model[1].running_var, torch.full((3,), 128 / 127), atol=1e-3)


def test_instance_norm_with_running_statistics_is_averaged_as_well():
    model = nn.InstanceNorm2d(3, track_running_stats=True)
    batches = batches_of(4, 4)
    recalibrate_(model, batches)
    expected = torch.cat([x for x, _ in batches]).mean((0, 2, 3))
    assert torch.allclose(model.running_mean, expected, atol=1e-5)


def test_modes_and_momenta_are_restored():
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Dropout()).train()
    model[0].eval()
    recalibrate_(model, batches_of(4))
    assert [m.training for m in model.modules()] == [True, False, True]
    assert model[0].momentum == 0.3


def test_weights_and_random_generators_are_untouched():
    def augmented():
        for x, y in batches_of(4, 4):
            yield x + torch.rand(1) + random.random() + np.random.rand(), y

    model = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    before = [p.detach().clone() for p in model.parameters()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    recalibrate_(model, augmented())
    assert all(map(torch.equal, model.parameters(), before))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_result_can_be_trained_further():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    recalibrate_(model, batches_of(4))
    model(batches_of(4)[0][0]).sum().backward()
    assert model[0].weight.grad is not None


@pytest.mark.parametrize(
    "layer", [nn.GroupNorm(3, 3), nn.BatchNorm2d(3, track_running_stats=False)]
)
def test_network_without_running_statistics_never_asks_for_a_batch(layer):
    def refuse():
        raise AssertionError
        yield

    recalibrate_(nn.Sequential(layer), refuse())


def test_no_batch_is_an_error_and_restores_the_modes():
    model = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate_(model, [])
    assert model.training
    assert model.momentum == 0.1


def test_other_layers_work_as_in_evaluation():
    model, (batch,) = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3)), batches_of(4)
    recalibrate_(model, [batch])
    mean, variance = statistics(batch[0])
    assert torch.allclose(model[1].running_mean.double(), mean, atol=1e-5)
    assert torch.allclose(model[1].running_var.double(), variance, atol=1e-4)
