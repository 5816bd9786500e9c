import copy
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import NETWORKS, build, randomise_
from torch import nn
from torchvision import models

from admm_exp.admm.metrics import Random
from admm_exp.errors import SurgeryError
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.surgery import compare, cut, mask_, max_abs_difference

ARCHITECTURES = (
    "resnet18",
    "mobilenet_v3_small",
    "squeezenet1_1",
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in ("googlenet", "regnet_x_400mf", "shufflenet_v2_x0_5", "swin_t")
    ),
)
"""A sample of the zoo; `pytest -m slow` takes all of it."""


def constrain(model, inputs, sparsity, seed=0):
    return ConstrainedModel(model, inputs, sparsity=sparsity, metric=Random(seed), rho=1.0)


def cut_of(constrained, support=None):
    """Cut the unmasked network: removal alone has to equal masking."""
    support = constrained.state.support if support is None else support
    return cut(constrained.model, constrained.groups, support)


def masked_of(constrained, support):
    masked = copy.deepcopy(constrained.model)
    masks = constrained.constraint.masks(constrained.state.targets, support)
    mask_(masked, constrained.slices, masks)
    return masked.eval()


@torch.no_grad()
def relative_difference(masked, small, inputs):
    expected = masked.eval()(inputs)
    return float((expected - small.eval()(inputs)).abs().max() / expected.std())


def expected_widths(constrained, sparsity):
    """Count the kept channels with exact fractions, block by block."""
    for group in constrained.groups:
        block = group.n_units // group.n_blocks
        removed = int(Fraction(str(sparsity)) * block)
        yield group, group.n_blocks * max(1, block - removed)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("name", NETWORKS)
def test_cut_network_computes_what_the_masked_one_does(name, sparsity):
    model, inputs = build(name)
    constrained = constrain(model, inputs, sparsity)
    masked = constrained.removal().masked()
    assert relative_difference(masked, cut_of(constrained), inputs) < 1e-5
    assert relative_difference(masked, model, inputs) > 0.1, "the mask changes nothing"


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_producer_keeps_the_channels_that_were_counted(name, sparsity):
    constrained = constrain(*build(name), sparsity)
    small = cut_of(constrained)
    for group, kept in expected_widths(constrained, sparsity):
        for producer in group.producers:
            before = constrained.model.get_submodule(producer)
            after = small.get_submodule(producer)
            dim = 1 if getattr(before, "transposed", False) else 0
            assert after.weight.shape[dim] == kept
            assert getattr(after, "out_channels", getattr(after, "out_features", None)) == kept
            assert before.weight.shape[dim] == group.n_units


@pytest.mark.parametrize("name", NETWORKS)
def test_cut_network_trains(name):
    model, inputs = build(name)
    small = cut_of(constrain(model, inputs, 0.5)).train()
    small(inputs).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_cut_leaves_the_model_as_it_was(name):
    model, inputs = build(name)
    model.train()
    next(m for m in model.modules() if m is not model).eval()
    list(model.parameters())[-1].requires_grad_(False)
    before = copy.deepcopy(model)
    cut_of(constrain(model, inputs, 0.5))
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [
        p.requires_grad for p in before.parameters()
    ]
    weights, expected = model.state_dict(), before.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@st.composite
def networks_and_supports(draw):
    name = draw(st.sampled_from(sorted(NETWORKS)))
    constrained = constrain(*build(name, draw(st.integers(0, 99))), 0.0)
    support = []
    for group in constrained.groups:
        block = group.n_units // group.n_blocks
        n_kept = draw(st.integers(1, block))
        orders = [draw(st.permutations(range(block))) for _ in range(group.n_blocks)]
        support.append(torch.tensor([i < n_kept for order in orders for i in order]))
    return constrained, support


@given(networks_and_supports())
@settings(max_examples=60, deadline=None)
def test_any_support_can_be_cut_without_loss(case):
    constrained, support = case
    masked = masked_of(constrained, support)
    small = cut_of(constrained, support)
    assert relative_difference(masked, small, constrained.example_input) < 1e-5


@pytest.mark.parametrize(("name", "blocks"), [("grouped", 2), ("grouped_by_3", 3)])
def test_blocks_of_a_grouped_convolution_may_keep_different_channels(name, blocks):
    model, inputs = build(name)
    constrained = constrain(model, inputs, 0.0)
    support = [two_kept_per_block(group.n_units // blocks, blocks) for group in constrained.groups]
    small = cut_of(constrained, support)
    assert (small[3].in_channels, small[3].out_channels) == (2 * blocks, 2 * blocks)
    assert relative_difference(masked_of(constrained, support), small, inputs) < 1e-5


def two_kept_per_block(size, blocks):
    """Keep channels i and i + 1 of block i."""
    positions = torch.arange(size)
    return torch.cat([(positions == i) | (positions == i + 1) for i in range(blocks)])


def test_columns_of_each_block_of_a_grouped_convolution_are_its_own():
    model, inputs = build("grouped")
    constrained = constrain(model, inputs, 0.0)
    kept = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0], dtype=torch.bool)
    everything = torch.ones(24, dtype=torch.bool)
    small = cut_of(constrained, [kept, everything])
    weight = model[3].weight
    expected = torch.cat([weight[:12, [0, 3]], weight[12:, [2, 4]]])
    assert torch.equal(small[3].weight, expected)
    assert (small[3].in_channels, small[3].groups) == (4, 2)


def test_flatten_removes_all_columns_of_a_channel():
    model, inputs = build("flatten")
    constrained = constrain(model, inputs, 0.0)
    kept = torch.arange(8) != 2
    small = cut_of(constrained, [kept, torch.ones(10, dtype=torch.bool)])
    columns = torch.cat([torch.arange(32), torch.arange(48, 128)])
    assert torch.equal(small[5].weight, model[5].weight[:, columns])


def test_running_statistics_are_cut_with_their_channel():
    model, inputs = build("plain_chain")
    constrained = constrain(model, inputs, 0.5)
    kept = constrained.state.support[0]
    small = cut_of(constrained)
    assert torch.equal(small[1].running_mean, model[1].running_mean[kept])
    assert torch.equal(small[1].running_var, model[1].running_var[kept])


def test_frozen_consumer_stays_frozen_in_the_cut_network():
    model, inputs = build("plain_chain")
    model[8].requires_grad_(False)
    small = cut_of(constrain(model, inputs, 0.5))
    frozen = [name for name, p in small.named_parameters() if not p.requires_grad]
    assert frozen == ["8.weight", "8.bias"]
    assert small[8].in_features == 6


def test_cut_network_keeps_the_mode_of_every_layer():
    model, inputs = build("plain_chain")
    model.train()
    model[1].eval()
    small = cut_of(constrain(model, inputs, 0.5))
    assert [m.training for m in small] == [i != 1 for i in range(len(model))]


def classifier(name):
    """Build a network of torchvision; of the Swin transformer, a small one of its class."""
    if name == "swin_t":
        return models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [7, 7], num_classes=10)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return models.get_model(name, num_classes=10, **options)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_torchvision_classifier_is_cut_without_loss(name):
    model = randomise_(classifier(name)).eval()
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    constrained = constrain(model, inputs, 0.5)
    masked, small = constrained.removal().masked(), cut_of(constrained)
    assert relative_difference(masked, small, inputs) < 1e-5
    assert relative_difference(masked, model, inputs) > 0.1
    sizes = [sum(p.numel() for p in network.parameters()) for network in (model, small)]
    assert sizes[1] < 0.8 * sizes[0]
    assert small(inputs).shape == (2, 10)


class ReversedChannels(nn.Module):
    def forward(self, features):
        return features.flip(1)


@pytest.mark.parametrize(
    "layer", [nn.ChannelShuffle(2), ReversedChannels()], ids=lambda layer: type(layer).__name__
)
def test_channels_are_followed_wherever_they_are_moved(layer):
    model = randomise_(nn.Sequential(nn.Conv2d(3, 8, 3), layer, nn.Conv2d(8, 5, 3)))
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    constrained = constrain(model, inputs, 0.5)
    masked, small = constrained.removal().masked(), cut_of(constrained)
    assert relative_difference(masked, small, inputs) < 1e-5
    assert small[2].in_channels == 4


def test_auxiliary_heads_that_run_in_training_alone_are_cut_too():
    model = models.get_model("googlenet", num_classes=10, aux_logits=True, init_weights=False)
    inputs = torch.randn(2, 3, 64, 64)
    small = cut_of(constrain(model, inputs, 0.5))
    outputs = small.train()(inputs)
    assert [len(out[0]) for out in outputs] == [10, 10, 10]
    assert small.aux1.conv.conv.in_channels < model.aux1.conv.conv.in_channels


def test_layer_that_breaks_under_the_knife_is_a_surgery_error():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3))
    inputs = torch.randn(2, 3, 8, 8)
    constrained = constrain(model, inputs, 0.5)
    model[2] = nn.Identity()
    with pytest.raises(SurgeryError, match=r"^the channels cannot be removed: Attr\w+: [^\n]*$"):
        cut_of(constrained)


def shifted(amount):
    model, inputs = build("mlp")
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[4].bias[2] += amount
    return model, other, inputs


def test_difference_is_the_largest_over_all_outputs():
    assert max_abs_difference(*shifted(5e-4)) == pytest.approx(5e-4, rel=1e-2)
    assert max_abs_difference(*shifted(0.0)) == 0.0


@pytest.mark.parametrize("amount", [2e-3, -2e-3, float("inf"), float("nan")])
def test_difference_above_the_limit_is_an_error(amount):
    with pytest.raises(
        SurgeryError, match=r"differs from the masked one by [\w.+-]+, [\w.+-]+ % of"
    ):
        max_abs_difference(*shifted(amount))


def test_network_that_does_not_run_is_an_error():
    model, _, inputs = shifted(0.0)
    broken = nn.Sequential(model[0], nn.Linear(15, 5))
    with pytest.raises(
        SurgeryError, match=r"does not run after the cut: RuntimeError: .* \(4x16 and 15x5\)"
    ):
        max_abs_difference(model, broken, inputs)


def test_outputs_of_another_shape_are_an_error_even_if_they_broadcast():
    model, other, inputs = shifted(0.0)
    with pytest.raises(SurgeryError, match=r"outputs of shape \(4, 1\), not \(4, 5\)"):
        max_abs_difference(model, nn.Sequential(other, nn.Linear(5, 1)), inputs)


class Several(nn.Module):
    def __init__(self, network, form):
        super().__init__()
        self.network = network
        self.form = form

    def forward(self, inputs):
        return self.form(self.network(inputs))


@pytest.mark.parametrize(
    "form", [lambda out: {"a": out[:, :1], "b": out}, lambda out: (out[:, :1], [out])]
)
def test_every_output_of_a_network_with_several_is_compared(form):
    model, other, inputs = shifted(5e-4)
    difference = max_abs_difference(Several(model, form), Several(other, form), inputs)
    assert difference == pytest.approx(5e-4, rel=1e-2)


def test_comparison_runs_in_evaluation_mode_and_restores_every_layer():
    model, inputs = build("plain_chain")
    model.train()
    model[1].eval()
    other = copy.deepcopy(model)
    assert max_abs_difference(model, other, inputs) == 0.0
    for network in (model, other):
        assert [m.training for m in network] == [i != 1 for i in range(len(model))]
        assert network[4].num_batches_tracked == 0


class Jumps(nn.Module):
    """Rows whose sum is off by rounding, as many as there happen to be: detections, in short."""

    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        y = sum(x[:, i] for i in self.order.tolist())
        return y.sum(), y[(y - x.double().sum(1)).abs() > 1e-9]


def test_what_rounding_made_is_looked_at_in_double_precision() -> None:
    x = torch.randn(700, 9, generator=torch.Generator().manual_seed(1))
    one, other = Jumps(torch.arange(9)), Jumps(torch.arange(8, -1, -1))
    assert len(one(x)[1]) != len(other(x)[1])
    assert compare(one, other, x).relative < 1e-12


def test_outputs_of_another_form_are_refused_in_either_precision() -> None:
    x = torch.randn(4, 9)
    with pytest.raises(SurgeryError, match="outputs of shape"):
        compare(nn.Linear(9, 3), nn.Linear(9, 2), x)


class Remembers(nn.Module):
    """Holds a weight a second time, where no module looks."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.beside = [self.first.weight, self.last.bias]

    def forward(self, x):
        return self.last(self.first(x))


def test_a_cut_copies_what_it_does_not_cut_and_what_is_held_elsewhere():
    model = Remembers().eval()
    groups = find_groups(model, torch.randn(2, 6)).groups
    support = [torch.arange(group.n_units) % 2 == 0 for group in groups]
    small = cut(model, groups, support)
    assert torch.equal(small.last.bias, model.last.bias)
    assert small.beside[1] is small.last.bias
    assert torch.equal(small.beside[0], model.first.weight)
    own = {t.data_ptr() for t in model.parameters()}
    assert own.isdisjoint(t.data_ptr() for t in [*small.parameters(), *small.beside])
