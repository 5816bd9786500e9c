import re

import pytest
from support.networks import build

from admm_exp.errors import ConfigError, ModelError
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.groups import KeptGroup, Prunable, PrunableGroup
from admm_exp.pruning.surgery.sparsities import group_sparsities, without_excluded


def group(*producers):
    return PrunableGroup(producers[0], producers, 16, 1, ())


PRUNABLE = Prunable(
    (group("conv1", "layer1.0.conv2", "layer1.1.conv2"), group("layer1.0.conv1"), group("fc1")),
    (KeptGroup("fc2", ("fc2", "skip"), 10, "its channels are the output of the network"),),
)


def test_groups_without_a_rate_take_the_default():
    assert group_sparsities(PRUNABLE, 0.5, {}) == (0.5, 0.5, 0.5)


def test_rate_of_a_layer_is_that_of_its_group_alone():
    assert group_sparsities(PRUNABLE, 0.5, {"layer1.0.conv1": 0.25}) == (0.5, 0.25, 0.5)


@pytest.mark.parametrize("producer", ["conv1", "layer1.0.conv2", "layer1.1.conv2"])
def test_any_layer_of_a_tied_group_sets_its_rate(producer):
    assert group_sparsities(PRUNABLE, 0.5, {producer: 0.1}) == (0.1, 0.5, 0.5)


def test_layers_of_a_tied_group_may_repeat_its_rate():
    by_layer = {"conv1": 0.1, "layer1.1.conv2": 0.1}
    assert group_sparsities(PRUNABLE, 0.5, by_layer) == (0.1, 0.5, 0.5)


def test_layers_of_a_tied_group_may_not_contradict_each_other():
    with pytest.raises(ConfigError, match=r"tied together .* layer1\.1\.conv2: 0\.2, conv1: 0\.1"):
        group_sparsities(PRUNABLE, 0.5, {"layer1.1.conv2": 0.2, "conv1": 0.1})


def test_zero_keeps_a_group_whole_and_is_no_missing_rate():
    assert group_sparsities(PRUNABLE, 0.5, {"fc1": 0}) == (0.5, 0.5, 0.0)


def test_result_is_of_floats():
    assert [type(rate) for rate in group_sparsities(PRUNABLE, 0, {"fc1": 0})] == [float] * 3


@pytest.mark.parametrize(
    "value", [1.0, 1, -0.1, 2, float("nan"), float("inf"), True, False, "0.5", None, [0.5]]
)
@pytest.mark.parametrize("where", ["default", "fc1"])
def test_value_out_of_range_is_refused_with_its_place(where, value):
    default, by_layer = (value, {}) if where == "default" else (0.5, {"fc1": value})
    sentence = f"sparsity of {where} must be a number in [0, 1), got {value!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        group_sparsities(PRUNABLE, default, by_layer)


def test_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"unknown layer 'layer1\.0\.con1'.*'layer1\.0\.conv1'\?"):
        group_sparsities(PRUNABLE, 0.5, {"layer1.0.con1": 0.1})


def test_name_like_no_other_is_refused_with_all_known_ones():
    known = "conv1, layer1.0.conv2, layer1.1.conv2, layer1.0.conv1, fc1"
    with pytest.raises(ConfigError, match=f"known layers: {re.escape(known)}$"):
        group_sparsities(PRUNABLE, 0.5, {"qqq": 0.1})


@pytest.mark.parametrize("producer", ["fc2", "skip"])
def test_layer_that_stays_whole_is_refused_with_the_reason(producer):
    sentence = f"layer {producer} cannot be pruned: its channels are the output of the network"
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        group_sparsities(PRUNABLE, 0.5, {producer: 0.1})


@pytest.mark.parametrize(
    ("by_layer", "expected"),
    [
        ({"layer1.*": 0.1}, (0.1, 0.1, 0.5)),
        ({"*": 0.1, "layer1.*": 0.2}, (0.2, 0.2, 0.1)),
        ({"layer1.*": 0.2, "*": 0.1, "conv1": 0.3}, (0.3, 0.2, 0.1)),
        ({"layer1.0.*": 0.2, "layer1.0.conv1": 0.4}, (0.2, 0.4, 0.5)),
        ({"fc?": 0.4}, (0.5, 0.5, 0.4)),
        ({"[cf]*1": 0.4}, (0.4, 0.5, 0.4)),
    ],
)
def test_most_specific_entry_decides(by_layer, expected):
    assert group_sparsities(PRUNABLE, 0.5, by_layer) == expected


def test_equally_specific_wildcards_that_differ_are_a_contradiction():
    with pytest.raises(ConfigError, match=r"need one sparsity, got layer1\.0\*: 0\.1, layer1\.1\*"):
        group_sparsities(PRUNABLE, 0.5, {"layer1.0*": 0.1, "layer1.1*": 0.2})


def test_wildcard_that_matches_nothing_is_an_error():
    with pytest.raises(ConfigError, match=r"^'layer9\.\*' in the layers file matches no layer"):
        group_sparsities(PRUNABLE, 0.5, {"layer9.*": 0.1})


@pytest.mark.parametrize(
    ("exclude", "left"),
    [(("wider.*",), ["stem.0", "same.0"]), (("same.0", "downsample.0"), ["stem.0", "wider.0"])],
)
def test_excluded_layers_keep_their_whole_group(exclude, left):
    model, inputs = build("residual")
    prunable = without_excluded(find_groups(model, inputs), model, exclude)
    assert [group.name for group in prunable.groups] == left
    assert any(group.reason == f"excluded by {exclude[0]!r}" for group in prunable.kept)


@pytest.mark.parametrize("exclude", ["wider.0", "same.0", "wider.*"])
def test_a_file_may_list_the_layers_that_it_excludes(exclude):
    model, inputs = build("residual")
    whole = find_groups(model, inputs)
    by_layer = {group.name: 0.3 for group in whole.groups}
    left = without_excluded(whole, model, (exclude,))
    assert len(left.groups) < len(whole.groups)
    assert set(group_sparsities(left, 0.5, by_layer)) == {0.3}


@pytest.mark.parametrize(("kind", "left"), [("ConvTranspose2d", ["0"]), ("Conv2d", ["2"])])
def test_layers_are_excluded_by_type(kind, left):
    model, inputs = build("transposed")
    prunable = without_excluded(find_groups(model, inputs), model, (kind,))
    assert [group.name for group in prunable.groups] == left


def test_exclusion_of_nothing_is_an_error_with_the_nearest_name():
    model, inputs = build("transposed")
    with pytest.raises(ConfigError, match=r"'Conv2' matches no layer; did you mean 'Conv2d'\?"):
        without_excluded(find_groups(model, inputs), model, ("Conv2",))


def test_excluding_everything_is_an_error():
    model, inputs = build("mlp")
    with pytest.raises(ModelError, match=r"exclude: Linear leaves nothing to prune"):
        without_excluded(find_groups(model, inputs), model, ("Linear",))


def test_group_named_by_a_tensor_obeys_its_own_name_before_that_of_its_layer():
    own = PrunableGroup("rnn.weight_hr_l0", ("rnn",), 4, 1, ())
    prunable = Prunable((group("rnn"), own), ())
    assert group_sparsities(prunable, 0.5, {"rnn": 0.1}) == (0.1, 0.1)
    assert group_sparsities(prunable, 0.5, {"rnn.weight_hr_l0": 0.2}) == (0.5, 0.2)
    assert group_sparsities(prunable, 0.5, {"rnn": 0.1, "rnn.weight_hr_l0": 0.2}) == (0.1, 0.2)
