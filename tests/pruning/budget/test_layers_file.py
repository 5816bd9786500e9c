from itertools import pairwise

import pytest
import torch
from support.networks import build
from torch import nn

from admm_exp.admm.partitions.element import Element
from admm_exp.errors import ConfigError
from admm_exp.pruning.budget.layers_file import layers_text, read_layers, unit_layers_text
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.layers import find_layers
from admm_exp.pruning.surgery.sparsities import (
    LayerSettings,
    group_sparsities,
    without_excluded,
)


@pytest.fixture
def layers(tmp_path):
    """Write a layers file with the text given and return its path."""

    def write(text):
        path = tmp_path / "layers.yaml"
        path.write_text(text)
        return path

    return write


def text_of(name, by_layer, exclude=(), default=0.5):
    layers = LayerSettings(default, by_layer, exclude)
    return layers_text(Planner(*build(name)).plan(layers), layers)


@pytest.mark.parametrize("name", ["residual", "mlp", "dense_block", "gated", "grouped"])
def test_written_file_reads_as_the_same_sparsities(layers, name):
    groups = find_groups(*build(name)).groups
    by_layer = {group.name: round(0.07 * (i + 1), 2) for i, group in enumerate(groups)}
    assert read_layers(layers(text_of(name, by_layer)), 0.9) == LayerSettings(0.5, by_layer)


def test_written_file_tells_channels_params_macs_and_ties():
    lines = text_of("residual", {}).splitlines()
    place = lines.index("  # tied with same.3:")
    # stem 3*8*9 and same.3 6*8*9 weights on 8x8 pixels, and gamma and beta of both norms
    assert lines[place + 1] == f"  stem.0: 0.5 # 8 channels, {216 + 432 + 32} params, 41,472 MACs"
    assert (216 + 432) * 64 == 41_472


def test_written_file_names_what_stays_whole_without_setting_it(layers):
    text = text_of("mlp", {})
    reason = "its channels are the output of the network"
    assert text.splitlines()[-1] == f"# kept whole: 4: {reason}"
    assert read_layers(layers(text), 0.0).by_layer == {"0": 0.5, "2": 0.5}


@pytest.mark.parametrize("entry", ["layer: 1.*", "[a]*", "*", "Linear", "0", "on"])
def test_exclusions_survive_being_written_and_read(layers, entry):
    plan = Planner(*build("mlp")).plan(LayerSettings(0.5, {}))
    text = layers_text(plan, LayerSettings(0.5, {}, (entry,)))
    assert read_layers(layers(text), 0.0).exclude == (entry,)


def test_file_below_the_channel_names_its_units_and_reads_as_written(layers):
    asked = LayerSettings(0.5, {"2": 0.25}, ("0",))
    model, inputs = build("mlp")
    prunable = without_excluded(find_layers(model, inputs, Element()), model, asked.exclude)
    text = unit_layers_text(
        prunable, group_sparsities(prunable, 0.5, asked.by_layer), asked, "weights"
    )
    assert "  2: 0.25 # 160 weights\n  4: 0.5 # 50 weights\n" in text
    assert text.endswith("# kept whole: 0: excluded by '0'\n")
    assert read_layers(layers(text), 0.9) == LayerSettings(0.5, {"2": 0.25, "4": 0.5}, ("0",))


def test_file_may_hold_exclusions_alone(layers):
    assert read_layers(layers("exclude: [Linear]"), 0.7) == LayerSettings(0.7, {}, ("Linear",))


@pytest.mark.parametrize("value", ["fc", "{fc: 1}", "[[fc]]", "~"])
def test_exclusions_of_another_form_are_refused(layers, value):
    with pytest.raises(ConfigError, match=r"^exclude in layers=.* must be a list of layer names"):
        read_layers(layers(f"exclude: {value}"), 0.5)


def test_reading_leaves_the_users_file_as_it_is(layers):
    text = "# mine\nsparsity: {default: 0.5, fc: 0.3}   # keep\n"
    path = layers(text)
    read_layers(path, 0.9)
    assert path.read_text() == text


def test_file_without_default_takes_that_of_the_settings(layers):
    assert read_layers(layers("sparsity: {fc: 0.3}"), 0.9) == LayerSettings(0.9, {"fc": 0.3})


def test_default_alone_is_enough(layers):
    assert read_layers(layers("sparsity: {default: 0.25}"), 0.9) == LayerSettings(0.25, {})


def test_number_is_a_layer_name_like_any_other(layers):
    assert read_layers(layers("sparsity: {0: 0.3, 10: 0.5}"), 0.9) == LayerSettings(
        0.9, {"0": 0.3, "10": 0.5}
    )


def test_path_may_be_a_string(layers):
    assert read_layers(str(layers("sparsity: {fc: 0.3}")), 0.9) == LayerSettings(0.9, {"fc": 0.3})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.5",
        "[0.5]",
        "sparsity: 0.5",
        "sparsity: [0.5]",
        "sparsity:",
        "fc: 0.3",
        "sparsity: {fc: 0.3}\nmetric: l2_norm",
    ],
)
def test_wrong_form_is_refused_with_the_right_one(layers, text):
    with pytest.raises(ConfigError, match=r"^layers=.* must hold a mapping `sparsity:` with .*$"):
        read_layers(layers(text), 0.5)


@pytest.mark.parametrize("text", ["sparsity: {fc: 0.3", "sparsity:\n\t- a", "a: b: c", "&a *b"])
def test_broken_yaml_is_one_sentence(layers, text):
    with pytest.raises(ConfigError, match=r"^layers=.* is not valid YAML \([^\n]+\)$"):
        read_layers(layers(text), 0.5)


def test_python_objects_in_yaml_are_refused_and_not_built(layers, tmp_path):
    victim = tmp_path / "victim"
    text = f"sparsity: !!python/object/apply:os.mkdir ['{victim}']"
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_layers(layers(text), 0.5)
    assert not victim.exists()


def test_missing_file_and_folder_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"layers=.*none\.yaml cannot be read \(No such file"):
        read_layers(tmp_path / "none.yaml", 0.5)
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_layers(tmp_path, 0.5)


def test_binary_file_is_one_sentence(tmp_path):
    path = tmp_path / "layers.yaml"
    path.write_bytes(b"\x80\x02\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot be read \(not a text file\)"):
        read_layers(path, 0.5)


@pytest.mark.parametrize("value", ["yes", "'0.5'", "1.5", "~", "[0.1]", ".nan"])
def test_value_of_another_kind_is_refused_by_name(layers, value):
    prunable = find_groups(*build("mlp"))
    by_layer = read_layers(layers(f"sparsity: {{'0': {value}}}"), 0.5).by_layer
    with pytest.raises(ConfigError, match=r"^sparsity of 0 must be a number in \[0, 1\), got "):
        group_sparsities(prunable, 0.5, by_layer)


def test_names_that_yaml_takes_for_numbers_and_booleans_stay_apart(layers):
    path = layers("sparsity: {1.1: 0.1, 1.10: 0.2, 010: 0.3, on: 0.4, 1_0: 0.5, ~: 0.6}")
    by_layer = read_layers(path, 0.9).by_layer
    assert by_layer == {"1.1": 0.1, "1.10": 0.2, "010": 0.3, "on": 0.4, "1_0": 0.5, "~": 0.6}


def test_nested_sequences_with_ten_layers_are_written_and_read(layers):
    inner = [layer for _ in range(6) for layer in (nn.Linear(6, 6), nn.ReLU())]
    model = nn.Sequential(nn.ReLU(), nn.Sequential(*inner), nn.Linear(6, 2))
    names = ["1.0", "1.2", "1.4", "1.6", "1.8", "1.10"]
    asked = LayerSettings(0.0, dict(zip(names, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True)))
    plan = Planner(model, torch.randn(2, 6), asked.exclude).plan(asked)
    assert read_layers(layers(layers_text(plan, asked)), 0.0) == asked


def test_name_given_twice_is_refused(layers):
    with pytest.raises(ConfigError, match=r"is not valid YAML \(fc stands here twice\)"):
        read_layers(layers("sparsity:\n  fc: 0.3\n  conv: 0.1\n  fc: 0.5\n"), 0.5)


def test_a_name_that_is_lists_in_lists_is_refused_at_once(layers):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghijkl")
    )
    with pytest.raises(ConfigError, match="a name must be a text"):
        read_layers(layers(f"{bomb}sparsity: {{? *l : 0.5}}\n"), 0.5)


def test_a_file_that_claims_a_terabyte_is_refused(tmp_path):
    with (tmp_path / "layers.yaml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="must have at most 16777216 bytes, got 1099511627776"):
        read_layers(tmp_path / "layers.yaml", 0.5)
