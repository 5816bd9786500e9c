import re

import pytest
import torch
from support.networks import NETWORKS, DenseBlock, Residual, build, grouped, randomise_
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from admm_exp.admm.groups import unit_matrix
from admm_exp.admm.metrics import Random
from admm_exp.errors import ModelError
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.groups import Slice, slices_of
from admm_exp.pruning.surgery.surgery import mask_

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def group_of(model, producer, inputs=IMAGES):
    (group,) = [g for g in find_groups(model, inputs).groups if producer in g.producers]
    return group


def reason_of(model, producer, inputs=IMAGES):
    (reason,) = [g.reason for g in find_groups(model, inputs).kept if producer in g.producers]
    return reason


def parameters_of(group):
    return {name for name, _, _ in group.parts}


def before_a_head(*layers, channels=8):
    """A convolution of 8 channels, the layers, and a prunable and an unprunable convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        *layers,
        nn.ReLU(),
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 5, 1),
    )


def test_unit_of_a_residual_chain_holds_stem_branches_and_their_norms():
    group = group_of(Residual(), "stem.0")
    norms = {f"{norm}.{name}" for norm in ("stem.1", "same.4") for name in ("weight", "bias")}
    assert parameters_of(group) == norms | {"stem.0.weight", "same.3.weight"}
    assert group.producers == ("stem.0", "same.3")


def test_unit_of_a_projection_shortcut_holds_the_downsample_and_its_bias():
    group = group_of(Residual(), "downsample.0")
    expected = {"wider.3.weight", "downsample.0.weight", "downsample.0.bias"}
    norms = {
        f"{norm}.{name}" for norm in ("wider.4", "downsample.1") for name in ("weight", "bias")
    }
    assert parameters_of(group) == expected | norms


def test_unit_of_a_depthwise_block_holds_the_kernel_its_bias_and_both_norms():
    model, inputs = build("depthwise")
    expected = {f"{i}.{name}" for i in (1, 3, 4) for name in ("weight", "bias")} | {"0.weight"}
    assert parameters_of(group_of(model, "3", inputs)) == expected


def test_unit_holds_the_slope_of_a_prelu_per_channel_but_not_a_common_one():
    model, inputs = build("prelu")
    assert "2.weight" in parameters_of(group_of(model, "0", inputs))
    assert parameters_of(group_of(model, "3", inputs)) == {"3.weight", "3.bias"}


def test_unit_of_a_gate_is_that_of_the_channels_it_multiplies():
    model, inputs = build("gated")
    group = group_of(model, "conv", inputs)
    assert group.producers == ("conv", "excite")
    assert {"norm.bias", "excite.weight", "excite.bias"} < parameters_of(group)


def test_norm_behind_a_flatten_gives_every_unit_its_pixels():
    model, inputs = build("flatten_norm")
    rows = {name: rows for name, _, rows in group_of(model, "0", inputs).parts}
    assert torch.equal(rows["3.weight"], torch.arange(8 * 16).view(8, 16))
    assert torch.equal(rows["0.weight"], torch.arange(8).view(8, 1))


def test_channels_of_a_transposed_convolution_are_its_columns():
    model, inputs = build("transposed")
    dims = {name: dim for name, dim, _ in group_of(model, "2", inputs).parts}
    assert dims == {"2.weight": 1, "2.bias": 0, "3.weight": 0, "3.bias": 0}


def test_input_columns_of_consumers_belong_to_no_unit():
    model, inputs = build("plain_chain")
    assert parameters_of(group_of(model, "3", inputs)) == {
        "3.weight",
        "3.bias",
        "4.weight",
        "4.bias",
    }
    assert all(dim == 0 for group in find_groups(model, inputs).groups for _, dim, _ in group.parts)


@pytest.mark.parametrize("blocks", [2, 3, 6])
def test_both_sides_of_a_grouped_convolution_are_pruned_in_its_blocks(blocks):
    model = grouped(blocks)
    assert group_of(model, "0").n_blocks == blocks
    assert group_of(model, "3").n_blocks == blocks


def test_blocks_of_two_grouped_convolutions_are_combined():
    model = before_a_head(nn.ReLU())
    model[0] = nn.Conv2d(3, 24, 3, padding=1)
    model[3] = nn.Conv2d(24, 6, 3, padding=1, groups=2)
    model[1] = nn.Conv2d(24, 24, 1, groups=3)
    assert group_of(model, "0").n_blocks == 3
    assert group_of(model, "1").n_blocks == 6


@pytest.mark.parametrize("name", NETWORKS)
def test_every_constrained_scalar_belongs_to_exactly_one_unit(name):
    model, inputs = build(name)
    groups = find_groups(model, inputs).groups
    counts = {key: torch.zeros_like(parameter) for key, parameter in model.named_parameters()}
    for group in groups:
        for key, dim, rows in group.parts:
            for row in rows.flatten().tolist():
                counts[key].select(dim, row).add_(1)
    constrained = {key: torch.zeros_like(count) for key, count in counts.items()}
    for part in slices_of(model, groups):
        part.of(constrained[part.parameter]).add_(1)
    assert all(torch.equal(constrained[key], count) for key, count in counts.items())
    assert max(float(count.max()) for count in counts.values()) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_unit_matrices_hold_as_many_scalars_as_the_slices(name):
    model, inputs = build(name)
    constrained = ConstrainedModel(model, inputs, sparsity=0.5, metric=Random(0), rho=1.0)
    weights = constrained.weights()
    matrices = [unit_matrix(weights, group) for group in constrained.constraint.groups]
    assert sum(matrix.numel() for matrix in matrices) == sum(weight.numel() for weight in weights)
    assert [len(matrix) for matrix in matrices] == [group.n_units for group in constrained.groups]


def test_all_parameters_but_the_head_are_constrained():
    model, inputs = build("residual")
    names = {part.parameter for part in slices_of(model, find_groups(model, inputs).groups)}
    everything = {name for name, _ in model.named_parameters()}
    assert everything - names == {"fc.weight", "fc.bias"}


def test_norm_behind_a_concatenation_with_the_input_is_constrained_in_part():
    model = DenseBlock(keep_input=True)
    slices = slices_of(model, find_groups(model, IMAGES).groups)
    partial = {s.parameter: (s.start, s.length) for s in slices if not s.is_whole}
    assert partial == {
        "layers.1.0.weight": (3, 6),
        "layers.1.0.bias": (3, 6),
        "norm.weight": (3, 12),
        "norm.bias": (3, 12),
    }


@pytest.mark.parametrize("is_whole", [False, True])
def test_slice_is_a_view_of_the_parameter(is_whole):
    tensor = torch.zeros(4, 6)
    part = Slice("w", 1, 0 if is_whole else 2, 6 if is_whole else 3, is_whole)
    part.of(tensor).fill_(1.0)
    expected = [1.0] * 6 if is_whole else [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    assert tensor.tolist() == [expected] * 4


@pytest.mark.parametrize(
    ("name", "activations"),
    [
        ("plain_chain", ("2", "5")),
        ("chain_without_norm", ("1", "3")),
        ("depthwise", ("2", "5", "8")),
        ("grouped", ("2", "5")),
        ("transposed", ("1", "4")),
        ("prelu", ("2", "4")),
        ("instance_norm", ("2",)),
        ("flatten", ("2", "3", "6")),
    ],
)
def test_zeroed_unit_is_a_channel_that_is_exactly_zero(name, activations):
    model, inputs = build(name)
    constrained = ConstrainedModel(model, inputs, sparsity=0.5, metric=Random(1), rho=1.0)
    masks = constrained.constraint.masks(constrained.state.targets, constrained.state.support)
    mask_(model, constrained.slices, masks)
    seen = {}
    for layer in activations:
        model.get_submodule(layer).register_forward_hook(
            lambda _, args, out, layer=layer: seen.update({layer: out})
        )
    model(inputs)
    for layer in activations:
        group = last_group_before(constrained.groups, int(layer))
        kept = constrained.state.support[constrained.groups.index(group)]
        is_zero = seen[layer].transpose(0, 1).flatten(1).eq(0.0).all(1)
        assert is_zero[~kept].all()
        assert not is_zero[kept].all()


def last_group_before(groups, position):
    return max(
        (g for g in groups if min(map(int, g.producers)) < position),
        key=lambda g: max(int(p) for p in g.producers if int(p) < position),
    )


def test_groups_come_in_the_order_of_the_network_under_their_first_layer():
    model, inputs = build("residual")
    names = [group.name for group in find_groups(model, inputs).groups]
    assert names == ["stem.0", "same.0", "wider.0", "wider.3"]


@pytest.mark.parametrize("parameter", ["0.weight", "0.bias", "1.weight", "1.bias"])
def test_frozen_parameter_keeps_its_group_and_is_named(parameter):
    model = before_a_head(nn.BatchNorm2d(8))
    model.get_parameter(parameter).requires_grad_(False)
    assert reason_of(model, "0") == f"{parameter} is frozen"


def test_frozen_consumer_does_not_keep_the_group_before_it():
    model = before_a_head()
    model[2].requires_grad_(False)
    found = find_groups(model, IMAGES)
    assert [group.name for group in found.groups] == ["0"]
    assert [group.name for group in found.kept] == ["2", "4"]


@pytest.mark.parametrize(
    ("layer", "channels", "reason"),
    [
        (nn.BatchNorm2d(8, affine=False), 8, "its channels are not zero behind 1 (BatchNorm2d)"),
        (weight_norm(nn.Conv2d(8, 8, 1)), 8, "1 (ParametrizedConv2d) computes its weight"),
        (nn.Sigmoid(), 8, "its channels are not zero behind sigmoid in 1 (Sigmoid)"),
        (nn.Softmax(1), 8, "1 (Softmax) mixes its channels"),
    ],
    ids=["affine", "weight_norm", "sigmoid", "softmax"],
)
def test_layer_that_cannot_lose_channels_keeps_its_group(layer, channels, reason):
    model = randomise_(before_a_head(layer, channels=channels))
    assert reason_of(model, "0").startswith(reason)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(8, track_running_stats=False), nn.InstanceNorm2d(8)]
)
def test_norm_without_running_statistics_does_not_keep_its_group(layer):
    assert group_of(before_a_head(layer), "0").n_units == 8


def test_single_channels_of_a_block_cannot_be_removed():
    model = before_a_head(nn.Conv2d(8, 4, 1, groups=4), channels=4)
    told = "its 4 channels form 4 blocks that cannot shrink alike in 1 (Conv2d)"
    assert reason_of(model, "1") == told


def test_depthwise_convolution_with_a_multiplier_gives_every_unit_its_kernels():
    model = before_a_head(nn.Conv2d(8, 16, 1, groups=8), channels=16)
    rows = {name: rows for name, _, rows in group_of(model, "0").parts}
    assert torch.equal(rows["1.weight"], torch.arange(16).view(8, 2))


def test_instance_norm_with_running_statistics_belongs_to_its_channels():
    model = before_a_head(nn.InstanceNorm2d(8, affine=True, track_running_stats=True))
    assert {"1.weight", "1.bias"} < parameters_of(group_of(model, "0"))


def test_layers_that_share_a_parameter_are_one_group():
    model = before_a_head(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    model[3].weight = model[1].weight
    group = group_of(model, "0")
    assert group.producers == ("0", "1")
    assert parameters_of(group) == {"0.weight", "0.bias", "1.weight", "1.bias", "3.bias"}


def test_layer_under_two_names_shares_nothing():
    model = before_a_head()
    model[1].first = model[0]
    assert group_of(model, "0").n_units == 8


def test_kept_group_names_all_its_producers():
    model = Residual()
    model.stem[1].weight.requires_grad_(False)
    (kept,) = [g for g in find_groups(model, IMAGES).kept if "stem.0" in g.producers]
    assert (kept.producers, kept.n_units) == (("stem.0", "same.3"), 8)
    assert kept.reason == "stem.1.weight is frozen"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Flatten(), r", it holds no convolution or linear layer$"),
        (nn.Conv2d(3, 4, 1), r" \(weight: its channels are the output of the network\)$"),
        (before_a_head().requires_grad_(False), r" \(.*0\.weight is frozen.*\)$"),
    ],
    ids=["no_layer", "only_classes", "frozen"],
)
def test_nothing_to_prune_is_one_sentence(model, reason):
    with pytest.raises(ModelError, match=r"^the model has nothing to prune" + reason):
        find_groups(model, IMAGES)


def test_number_of_channels_is_that_of_every_producer():
    model, inputs = build("residual")
    for group in find_groups(model, inputs).groups:
        for producer in group.producers:
            assert model.get_submodule(producer).out_channels == group.n_units
        assert all(len(rows) == group.n_units for _, _, rows in group.parts)


class FixedSize(nn.Module):
    """Reshapes by numbers that somebody typed."""

    def forward(self, features):
        return features.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8)


def test_group_whose_cut_is_refuted_by_the_probe_stays_whole_and_the_others_do_not():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        FixedSize(),
        nn.Conv2d(8, 6, 1),
        nn.ReLU(),
        nn.Conv2d(6, 5, 1),
    )
    found = find_groups(model, IMAGES)
    assert [group.name for group in found.groups] == ["2"]
    reason = found.kept[0].reason
    assert reason.startswith("1 (FixedSize) takes its channels apart in test_find.py:")


class Lookup(nn.Module):
    """Returns other channels if the number of channels is not the one it was made for."""

    def forward(self, features):
        return features if features.shape[1] == 8 else features.flip(1)


def test_group_whose_cut_changes_the_outputs_is_found_among_many():
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1), Lookup()]
    layers += [nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 1)]
    found = find_groups(nn.Sequential(*layers), IMAGES)
    assert [group.name for group in found.groups] == ["0", "4", "6"]
    told = r"its cut would change the outputs by [\d.e+]+ %, first in 4 \(Conv2d\)"
    assert re.fullmatch(told, found.kept[0].reason)
