import copy
import re

import pytest
import torch
import torch.nn.functional as F
from support.networks import NETWORKS, Residual, build, randomise_
from torch import nn

from admm_exp.errors import ModelError
from admm_exp.models.lenet import small_cnn
from admm_exp.pruning.dependency.graph import trace_groups
from admm_exp.pruning.dependency.operation_rules import operation
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.removal import remove_channels_

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
    (group,) = [g for g in trace_groups(model, inputs) if layer in g.producers]
    return group


def units_read_by(group, layer):
    """The unit that every column of a layer reads."""
    (site,) = [s for s in group.sites if s.layer == layer and not s.is_unit]
    return site.units.tolist()


def layers_of(group, is_unit):
    return {site.layer for site in group.sites if site.is_unit == is_unit}


def is_prunable_up_to_the_head(model, layer):
    return group_of(model, layer).reason is None


def test_residual_chain_is_one_group_from_the_stem_to_all_its_consumers():
    group = group_of(Residual(), "stem.0")
    consumers = {"same.0", "wider.0", "downsample.0"}
    assert layers_of(group, True) == {"stem.0", "stem.1", "same.3", "same.4"}
    assert layers_of(group, False) == consumers | {"stem.1", "same.4"}, "running statistics"


def test_projection_shortcut_is_tied_to_its_branch():
    group = group_of(Residual(), "downsample.0")
    assert layers_of(group, True) == {"downsample.0", "downsample.1", "wider.3", "wider.4"}


def test_flatten_gives_every_channel_its_pixels():
    model, inputs = build("flatten")
    units = units_read_by(group_of(model, "0", inputs), "5")
    assert units == [channel for channel in range(8) for _ in range(16)]


def test_concatenation_shifts_the_consumer_by_the_branches_before_it():
    model = Branches(lambda _, a, b: torch.cat([b, a], 1), 16)
    assert units_read_by(group_of(model, "a"), "head") == [-1] * 8 + list(range(8))


def test_a_group_holds_its_own_rows_of_a_long_concatenation_alone():
    model = Branches(lambda _, a, b: torch.cat([a, b] * 20, 1), 320)
    held = [s for g in trace_groups(model, IMAGES) for s in g.sites if s.layer == "head"]
    columns = sorted((s.n_rows, *s.rows.tolist()) for s in held if not s.is_unit)
    of_a = [16 * i + c for i in range(20) for c in range(8)]
    assert columns == [(320, *of_a), (320, *(8 + c for c in of_a))]


def test_tensors_that_lose_the_same_rows_share_the_list_of_them():
    group = group_of(Residual(), "stem.0")
    stem = [site for site in group.sites if site.layer.startswith("stem.")]
    assert len(stem) > 4
    assert len({id(site.rows) for site in stem}) == len({id(site.unit_of) for site in stem}) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_concatenation_with_the_input_shifts_the_consumer_by_the_input(channels):
    model = Branches(lambda images, a, _: torch.cat([images, a], 1), channels + 8)
    model.a = nn.Conv2d(channels, 8, 3, padding=1)
    model.b = nn.Conv2d(channels, 8, 3, padding=1)
    group = group_of(model, "a", IMAGES[:, :channels])
    assert units_read_by(group, "head") == [-1] * channels + list(range(8))
    assert group.reason is None


@pytest.mark.parametrize(
    ("join", "channels", "reason"),
    [
        (lambda x, a, b: x.repeat(1, 3, 1, 1)[:, :8] + a, 8, "tied to the input of the network"),
        (
            lambda x, a, b: torch.arange(8.0).view(1, 8, 1, 1) * a,
            8,
            "combines it with what is as wide and loses nothing",
        ),
        (
            lambda x, a, b: F.pad(a, (0, 0, 0, 0, 4, 4), value=1.0),
            16,
            "the Branches pads its channels",
        ),
        (lambda x, a, b: a[:, 1:6], 5, "picks its channels by position"),
        (lambda x, a, b: a[:, [3, 1, 2, 0]], 4, "picks its channels by position"),
        (lambda x, a, b: a.roll(1, 1), 8, "picks its channels by position"),
        (lambda x, a, b: a.amax(1, keepdim=True), 1, "takes the amax over its channels"),
        (lambda x, a, b: a.softmax(1), 8, "mixes its channels"),
        (lambda x, a, b: a.diff(dim=1), 7, "picks its channels by position"),
        (lambda x, a, b: torch.fft.fft(a, dim=1).real, 8, "mixes its channels"),
        (lambda x, a, b: a + a.transpose(1, 2), 8, "all its channels are tied together"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_channels_that_cannot_be_followed_are_kept_with_the_reason(join, channels, reason):
    assert reason in group_of(Branches(join, channels), "a").reason


@pytest.mark.parametrize(
    ("join", "cause"),
    [
        (lambda x, a, b: a.sigmoid(), "sigmoid in the Branches"),
        (lambda x, a, b: a + b.cos(), "cos in the Branches"),
        (lambda x, a, b: F.pad(a, (1, 1), value=1.0), "the padding of the Branches"),
    ],
)
def test_channels_that_are_not_zero_in_front_of_padding_are_kept(join, cause):
    model = Branches(join, 8)
    model.head = nn.Conv2d(8, 5, 3, padding=1)
    expected = (
        f'its channels are not zero behind {cause} in test_graph.py:[0-9]+, ".*" once removed'
    )
    assert re.fullmatch(expected, group_of(model, "a").reason)


@pytest.mark.parametrize("number", [float, torch.tensor])
def test_the_same_operation_is_asked_again_with_another_number(number):
    def join(images, a, b):
        return torch.cat([a + number(0.0), b + number(1.0)], 1)

    model = Branches(join, 16)
    model.head = nn.Conv2d(16, 5, 3, padding=1)
    assert group_of(model, "a").reason is None
    assert "not zero behind add" in group_of(model, "b").reason


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "conv3d"])
def test_groups_of_a_network_do_not_depend_on_its_layout(name):
    def traced(model):
        return [(group.name, group.n_units, group.reason) for group in trace_groups(model, inputs)]

    model, inputs = build(name)
    expected = traced(model)
    assert traced(model.to(memory_format=torch.channels_last)) == expected


def test_strides_that_move_entries_are_not_followed():
    reason = group_of(
        Branches(lambda x, a, b: a.as_strided_(a.shape, (0, 64, 8, 1)), 8), "a"
    ).reason
    start = "its channels cannot be followed through as_strided_ in the Branches in test_graph.py:"
    assert reason.startswith(start)


@pytest.mark.parametrize(
    "join",
    [
        lambda x, a, b: F.pad(a, (1, 1, 2, 2)),
        lambda x, a, b: F.pad(a, (1, 1, 2, 2), mode="circular"),
        lambda x, a, b: F.interpolate(a, scale_factor=2) * 2.0 + 0.0,
        lambda x, a, b: F.max_pool2d(a, 2) - F.avg_pool2d(b, 2),
        lambda x, a, b: a.mean((2, 3), keepdim=True) * b,
        lambda x, a, b: a * b.sigmoid(),
        lambda x, a, b: torch.cat([a, b], 2),
        lambda x, a, b: a.permute(0, 2, 3, 1).flip(3).permute(0, 3, 1, 2),
    ],
    ids=["pad", "circular", "upsample", "pool", "gate", "sigmoid_gate", "cat_rows", "flip"],
)
def test_operations_within_a_channel_do_not_stop_the_pruning(join):
    assert is_prunable_up_to_the_head(Branches(join, 8), "a")


@pytest.mark.parametrize(
    ("join", "channels", "n_units"),
    [
        (lambda x, a, b: shuffle(a), 8, 4),
        (lambda x, a, b: F.channel_shuffle(a, 4), 8, 2),
        (lambda x, a, b: F.glu(a, 1), 4, 4),
        (lambda x, a, b: a.chunk(2, 1)[0] * a.chunk(2, 1)[1], 4, 4),
        (lambda x, a, b: a[:, :4] + a[:, 4:], 4, 4),
        (lambda x, a, b: F.pixel_shuffle(a, 2), 2, 2),
        (lambda x, a, b: F.pixel_unshuffle(a, 2), 32, 8),
    ],
    ids=["shuffle", "channel_shuffle", "glu", "chunk", "halves", "pixel_shuffle", "unshuffle"],
)
def test_channels_that_are_taken_apart_shrink_alike(join, channels, n_units):
    group = group_of(Branches(join, channels), "a")
    assert (group.reason, group.n_units) == (None, n_units)


def test_concatenation_before_a_flatten_gives_every_branch_its_pixels():
    model = Branches(lambda _, a, b: torch.cat([a, b], 1).flatten(1), 1)
    model.head = nn.Linear(16 * 64, 5)
    units = units_read_by(group_of(model, "b"), "head")
    assert units == [-1] * 8 * 64 + [channel for channel in range(8) for _ in range(64)]


@pytest.mark.parametrize("name", NETWORKS)
def test_classes_are_the_only_channels_kept_of_a_plain_network(name):
    model, inputs = build(name)
    reasons = [group.reason for group in trace_groups(model, inputs) if group.reason]
    assert reasons == ["its channels are the output of the network"]


def test_layer_that_is_the_whole_network_has_the_name_of_its_weight():
    (group,) = trace_groups(nn.Linear(3, 4), torch.randn(2, 3))
    assert (group.name, group.reason) == ("weight", "its channels are the output of the network")


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
    assert {site.layer for site in group.sites} == {"0", "1", "3"}


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


class OutOfOrder(nn.Module):
    """Runs twice and then no more, as a network that cannot be followed."""

    def forward(self, features):
        if torch.overrides._get_current_function_mode() is not None:
            raise RuntimeError("no modes\nplease")
        return features


def test_network_that_cannot_be_followed_is_one_sentence():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), OutOfOrder(), nn.Conv2d(8, 5, 1))
    sentence = r"^the channels of the model cannot be followed \(RuntimeError: no modes\)$"
    with pytest.raises(ModelError, match=sentence):
        trace_groups(model, IMAGES)


def remove(model, inputs, removed):
    """Remove channels of the groups with these names."""
    groups = {group.name: group for group in find_groups(model, inputs).groups}
    chosen = [groups[name] for name in removed]
    support = [torch.ones(group.n_units, dtype=torch.bool) for group in chosen]
    for kept, channels in zip(support, removed.values(), strict=True):
        kept[channels] = False
    remove_channels_(model, chosen, support)


def test_removing_no_channel_changes_nothing():
    model, inputs = build("plain_chain")
    before = copy.deepcopy(model.state_dict())
    remove(model, inputs, {"0": [], "3": []})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_removed_channels_leave_producer_norm_and_consumer():
    model, inputs = build("plain_chain")
    before = copy.deepcopy(model)
    remove(model, inputs, {"0": [1, 6]})
    kept = [0, 2, 3, 4, 5, 7]
    assert torch.equal(model[0].weight, before[0].weight[kept])
    assert torch.equal(model[1].bias, before[1].bias[kept])
    assert torch.equal(model[3].weight, before[3].weight[:, kept])


def test_transposed_convolution_loses_columns_of_its_weight():
    model, inputs = build("transposed")
    before = copy.deepcopy(model)
    remove(model, inputs, {"2": [0], "0": [7]})
    assert torch.equal(model[2].weight, before[2].weight[:7, 1:])
    assert torch.equal(model[2].bias, before[2].bias[1:])


def test_depthwise_convolution_loses_whole_kernels():
    model, inputs = build("depthwise")
    before = copy.deepcopy(model)
    remove(model, inputs, {"0": [2]})
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
    remove(model, torch.randn(2, 6), {"first": [0, 5]})
    assert model.again.weight.shape == (6, 6)
    assert model(torch.randn(2, 6)).shape == (2, 5)


def test_arithmetic_of_labels_is_not_followed_as_if_it_were_the_networks(monkeypatch):
    """It was 98 % of what was followed, and most of the time."""
    followed = []

    def noted(flow, func, args, kwargs):
        followed.append(func)
        return operation(flow, func, args, kwargs)

    monkeypatch.setattr("admm_exp.pruning.dependency.graph.operation", noted)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(5)))
    trace_groups(model, torch.randn(2, 4))
    assert len(followed) <= 10
