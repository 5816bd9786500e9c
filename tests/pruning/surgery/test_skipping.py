"""Products with zeros that are left out, and those that are not."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from admm_exp.pruning.surgery import skipping
from admm_exp.pruning.surgery.skipping import call_skipping


@pytest.fixture(autouse=True)
def no_product_is_too_small(monkeypatch):
    monkeypatch.setattr(skipping, "LEAST_PRODUCTS", 0)
    monkeypatch.setattr(skipping, "LEAST_USES", 0)


def attentive():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.Sequential(nn.Linear(64, 64), layer, nn.Linear(64, 128), nn.Linear(128, 64))


def convolutional():
    return nn.Sequential(
        *(nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, bias=False)),
        *(nn.Conv2d(64, 64, 3, groups=4), nn.ConvTranspose2d(64, 64, 2), nn.Flatten(1)),
    )


NETWORKS = {"attention": (attentive, (2, 5, 64)), "convolution": (convolutional, (2, 16, 9, 9))}


@torch.no_grad()
def masked_half_(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter[torch.rand(len(parameter)) < 0.5] = 0
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_outputs_are_those_of_the_network(name):
    make, shape = NETWORKS[name]
    model, inputs = masked_half_(make()), torch.randn(shape)
    torch.testing.assert_close(call_skipping(model, inputs), model(inputs), rtol=1e-5, atol=1e-5)


def n_flops(run, model, inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(model, inputs)
    return counter.get_total_flops()


def chain(n=4):
    return nn.Sequential(*(nn.Linear(128, 128, bias=False) for _ in range(n)))


def test_products_with_zeros_are_left_out():
    model, inputs = masked_half_(chain()), torch.randn(8, 128)
    whole = n_flops(lambda model, inputs: model(inputs), model, inputs)
    assert n_flops(call_skipping, model, inputs) < 0.5 * whole


@pytest.mark.parametrize(("places", "is_left_out"), [(99, False), (100, True)])
def test_products_are_left_out_where_they_are_many(monkeypatch, places, is_left_out):
    monkeypatch.setattr(skipping, "LEAST_PRODUCTS", 100 * 128 * 128)
    model, inputs = masked_half_(chain()), torch.randn(places, 128)
    whole = n_flops(lambda model, inputs: model(inputs), model, inputs)
    assert (n_flops(call_skipping, model, inputs) < whole) == is_left_out


@pytest.mark.parametrize(("places", "is_left_out"), [(21, False), (22, True)])
def test_products_are_left_out_where_an_entry_is_used_often(monkeypatch, places, is_left_out):
    n_entries = 128 * 128 + 22 * 128 + 22 * 128
    monkeypatch.setattr(skipping, "LEAST_USES", 22 * 128 * 128 / n_entries)
    model, inputs = masked_half_(chain()), torch.randn(places, 128)
    whole = n_flops(lambda model, inputs: model(inputs), model, inputs)
    assert (n_flops(call_skipping, model, inputs) < whole) == is_left_out


def test_places_of_a_convolution_are_those_of_its_outputs(monkeypatch):
    monkeypatch.setattr(skipping, "LEAST_PRODUCTS", 64 * 16 * 9 * 2 * 5 * 5 + 1)
    model = masked_half_(nn.Conv2d(16, 64, 3, 2, padding=1))
    inputs = torch.randn(2, 16, 9, 9)
    whole = n_flops(lambda model, inputs: model(inputs), model, inputs)
    assert n_flops(call_skipping, model, inputs) == whole
    monkeypatch.setattr(skipping, "LEAST_PRODUCTS", 64 * 16 * 9 * 2 * 5 * 5)
    assert n_flops(call_skipping, model, inputs) < whole


def test_products_without_zeros_are_computed_whole():
    model, inputs = chain().eval(), torch.randn(8, 128)
    whole = n_flops(lambda model, inputs: model(inputs), model, inputs)
    assert n_flops(call_skipping, model, inputs) == whole


@torch.no_grad()
def test_zero_times_infinity_stays_not_a_number():
    model, inputs = masked_half_(chain(1)), torch.randn(8, 128)
    inputs[:, 0] = float("inf")
    assert torch.equal(call_skipping(model, inputs).isnan(), model(inputs).isnan())
    assert call_skipping(model, inputs).isnan().any()


@torch.no_grad()
def test_a_channel_that_is_not_zero_is_not_left_out():
    model, inputs = masked_half_(chain(2)), torch.randn(8, 128)
    gone = (model[0].weight.abs().sum(1) == 0).nonzero().flatten()
    model[0].weight[gone[0], 3] = 100.0
    torch.testing.assert_close(call_skipping(model, inputs), model(inputs), rtol=1e-5, atol=1e-4)


def test_the_fast_way_of_attention_is_as_before():
    before = torch.backends.mha.get_fastpath_enabled()
    call_skipping(masked_half_(attentive()), torch.randn(2, 5, 64))
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_what_the_network_raises_is_raised():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        call_skipping(chain(), torch.randn(2, 3))
