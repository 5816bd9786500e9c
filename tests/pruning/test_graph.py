import copy
import re

import pytest
import torch
import torch.nn.functional as F
from networks import NETWORKS, Residual, build, randomise_
from torch import nn
from torchvision.models.shufflenetv2 import InvertedResidual

from admm_exp.errors import ModelError
from admm_exp.models.lenet import small_cnn
from admm_exp.pruning.graph import remove_channels, trace_groups

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Branches(nn.Module):
    """Two convolutions of 8 channels whose results are joined by `join(images, a, b)`."""

    def __init__(self, join, channels):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(channels, 5, 1)
        self.join = join

    def forward(self, images):
        return self.head(self.join(images, F.relu(self.a(images)), F.relu(self.b(images))))


def shuffle(features):
    n, c, h, w = features.shape
    return features.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def group_of(model, layer, inputs=IMAGES):
    """Trace the group in which the layer's outputs are."""
    (group,) = [
        group
        for group in trace_groups(model, inputs)
        if group.root == layer
        or any(site.module == layer and site.is_producer_side for site in group.sites)
    ]
    return group


def site_of(group, layer, is_producer_side):
    (site,) = [
        s for s in group.sites if s.module == layer and s.is_producer_side == is_producer_side
    ]
    return site


def is_prunable_up_to_the_head(model, layer):
    return group_of(model, layer).reason is None


def test_residual_chain_is_one_group_from_the_stem_to_all_its_consumers():
    sites = group_of(Residual(), "stem.0").sites
    produced = {site.module for site in sites if site.is_producer_side}
    consumed = {site.module for site in sites if not site.is_producer_side}
    assert produced == {"stem.0", "stem.1", "same.3", "same.4"}
    assert consumed == {"same.0", "wider.0", "downsample.0"}


def test_projection_shortcut_is_tied_to_its_branch():
    sites = group_of(Residual(), "downsample.0").sites
    produced = {site.module for site in sites if site.is_producer_side}
    assert produced == {"downsample.0", "downsample.1", "wider.3", "wider.4"}


def test_flatten_gives_every_channel_its_pixels():
    model, inputs = build("flatten")
    site = site_of(group_of(model, "0", inputs), "5", is_producer_side=False)
    assert torch.equal(site.rows, torch.arange(8 * 16).view(8, 16))
    assert not site.is_identity


def test_concatenation_shifts_the_consumer_by_the_branches_before_it():
    model = Branches(lambda _, a, b: torch.cat([b, a], 1), 16)
    rows = site_of(group_of(model, "a"), "head", is_producer_side=False).rows
    assert rows.flatten().tolist() == list(range(8, 16))


@pytest.mark.parametrize("channels", [1, 3])
def test_concatenation_with_the_input_shifts_the_consumer_by_the_input(channels):
    model = Branches(lambda images, a, _: torch.cat([images, a], 1), channels + 8)
    model.a = nn.Conv2d(channels, 8, 3, padding=1)
    model.b = nn.Conv2d(channels, 8, 3, padding=1)
    group = group_of(model, "a", IMAGES[:, :channels])
    rows = site_of(group, "head", is_producer_side=False).rows
    assert rows.flatten().tolist() == list(range(channels, channels + 8))
    assert group.reason is None


@pytest.mark.parametrize(
    ("join", "channels", "reason"),
    [
        (lambda x, a, b: x.repeat(1, 3, 1, 1)[:, :8] + a, 8, "tied to the input of the network"),
        (lambda x, a, b: torch.cat([torch.ones(2, 2, 8, 8), a], 1), 10, "with a constant"),
        (lambda x, a, b: F.pad(a, (0, 0, 0, 0, 4, 4)), 16, "channels are padded"),
        (lambda x, a, b: a[:, 2:6], 4, "cannot be followed through head"),
        (lambda x, a, b: F.glu(a, 1), 4, "cannot be followed through head"),
        (lambda x, a, b: torch.cat([a, b], 2), 8, "cannot be followed through a concatenation"),
        (lambda x, a, b: F.pixel_shuffle(a, 2), 2, "cannot be followed through head"),
        (lambda x, a, b: shuffle(a), 8, "rearranged by a reshape"),
    ],
    ids=["add_input", "constant", "pad", "slice", "glu", "cat_rows", "pixel_shuffle", "shuffle"],
)
def test_channels_that_cannot_be_followed_are_kept_with_the_reason(join, channels, reason):
    assert reason in group_of(Branches(join, channels), "a").reason


@pytest.mark.parametrize(
    "join",
    [
        lambda x, a, b: F.pad(a, (1, 1, 2, 2)),
        lambda x, a, b: F.interpolate(a, scale_factor=2) * 2.0 + 0.0,
        lambda x, a, b: F.max_pool2d(a, 2) - F.avg_pool2d(b, 2),
        lambda x, a, b: a.mean((2, 3), keepdim=True) * b,
    ],
    ids=["pad_rows", "upsample", "pool", "gate"],
)
def test_operations_within_a_channel_do_not_stop_the_pruning(join):
    assert is_prunable_up_to_the_head(Branches(join, 8), "a")


def test_concatenation_before_a_flatten_is_kept_and_not_taken_for_its_neighbour():
    model = Branches(lambda _, a, b: torch.cat([a, b], 1).flatten(1), 1)
    model.head = nn.Linear(16 * 64, 5)
    assert group_of(model, "b").reason == "its channels cannot be followed through a concatenation"


def test_halves_gated_before_a_flatten_are_kept_and_not_taken_for_pixels():
    model = Branches(lambda _, a, b: F.glu(a, 1).mean((2, 3), keepdim=True).flatten(1), 1)
    model.head = nn.Linear(4, 5)
    assert group_of(model, "a").reason == "its channels cannot be followed through head"


@pytest.mark.parametrize("name", NETWORKS)
def test_classes_are_the_only_channels_kept_of_a_plain_network(name):
    model, inputs = build(name)
    reasons = [group.reason for group in trace_groups(model, inputs) if group.reason]
    assert reasons == ["its channels are the output of the network"]


@pytest.mark.parametrize(
    ("norm", "kind"),
    [(nn.GroupNorm(2, 8), "GroupNorm"), (nn.LayerNorm((8, 8, 8)), "LayerNorm")],
)
def test_norm_across_channels_keeps_its_group(norm, kind):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.Conv2d(8, 5, 1))
    reason = group_of(model, "0").reason
    assert reason == f"it passes through 1 ({kind}), which mixes channels"


def test_layer_that_is_the_whole_network_has_the_empty_name():
    (group,) = trace_groups(nn.Linear(3, 4), torch.randn(2, 3))
    assert (group.root, group.reason) == ("", "its channels are the output of the network")


def test_tracing_leaves_modes_gradients_and_weights_alone():
    model = small_cnn(10).train()
    model.conv2.eval()
    model.conv1.weight.requires_grad_(False)
    before = copy.deepcopy(model)
    trace_groups(model, torch.randn(2, 1, 8, 8))
    for one, other in zip(model.modules(), before.modules(), strict=True):
        assert one.training == other.training
    for one, other in zip(model.parameters(), before.parameters(), strict=True):
        assert (one.requires_grad, one.grad) == (other.requires_grad, None)
        assert torch.equal(one, other)
    assert [name for name, _ in model.named_modules()] == [n for n, _ in before.named_modules()]


def test_frozen_layers_are_seen_without_gradients_being_on():
    model, inputs = build("plain_chain")
    model.requires_grad_(False)
    with torch.no_grad():
        group = group_of(model, "0", inputs)
    assert {site.module for site in group.sites} == {"0", "1", "3"}


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 3), (3,)])
def test_wrong_example_shape_is_one_sentence(shape):
    model, _ = build("plain_chain")
    sentence = f"^the model does not accept an example input of shape {re.escape(str(shape))}: .+$"
    with pytest.raises(ModelError, match=sentence):
        trace_groups(model, torch.randn(shape))


class Demanding(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.error = error

    def forward(self, inputs):
        raise self.error


@pytest.mark.parametrize(
    "error", [AssertionError(), KeyError("tokens"), ValueError("size\nof what"), OSError(2, "gone")]
)
def test_any_error_of_a_network_becomes_one_sentence(error):
    with pytest.raises(ModelError, match=r"^the model does not accept [^\n]+: [^\n]+$"):
        trace_groups(Demanding(error), torch.randn(2, 3))


def test_sentence_of_our_own_network_is_passed_on():
    with pytest.raises(ModelError, match=r"^small_cnn needs images of at least 8x8"):
        trace_groups(small_cnn(10), torch.randn(2, 1, 4, 4))


def test_network_that_cannot_be_traced_is_one_sentence():
    units = [InvertedResidual(8, 8, stride=1) for _ in range(3)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *units, nn.Conv2d(8, 5, 1))
    with pytest.raises(ModelError, match=r"^the channels of the model cannot be followed .+$"):
        trace_groups(model, IMAGES)


def test_removing_no_channel_changes_nothing():
    model, inputs = build("plain_chain")
    before = copy.deepcopy(model.state_dict())
    remove_channels(model, inputs, [("0", []), ("3", [])])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_removed_channels_leave_producer_norm_and_consumer():
    model, inputs = build("plain_chain")
    before = copy.deepcopy(model)
    remove_channels(model, inputs, [("0", [1, 6])])
    kept = [0, 2, 3, 4, 5, 7]
    assert torch.equal(model[0].weight, before[0].weight[kept])
    assert torch.equal(model[1].bias, before[1].bias[kept])
    assert torch.equal(model[3].weight, before[3].weight[:, kept])


def test_transposed_convolution_loses_columns_of_its_weight():
    model, inputs = build("transposed")
    before = copy.deepcopy(model)
    remove_channels(model, inputs, [("2", [0]), ("0", [7])])
    assert torch.equal(model[2].weight, before[2].weight[:7, 1:])
    assert torch.equal(model[2].bias, before[2].bias[1:])


def test_depthwise_convolution_loses_whole_kernels():
    model, inputs = build("depthwise")
    before = copy.deepcopy(model)
    remove_channels(model, inputs, [("0", [2])])
    kept = [0, 1, 3, 4, 5, 6, 7]
    assert torch.equal(model[3].weight, before[3].weight[kept])
    assert (model[3].in_channels, model[3].out_channels, model[3].groups) == (7, 7, 7)


def test_layer_used_twice_is_cut_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 8)
            self.again = nn.Linear(8, 8)
            self.last = nn.Linear(8, 5)

        def forward(self, x):
            return self.last(F.relu(self.again(F.relu(self.again(F.relu(self.first(x)))))))

    model = randomise_(Twice())
    remove_channels(model, torch.randn(2, 6), [("first", [0, 5])])
    assert model.again.weight.shape == (6, 6)
    assert model(torch.randn(2, 6)).shape == (2, 5)
