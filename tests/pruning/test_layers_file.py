import pytest
import torch
from networks import build
from torch import nn

from admm_exp.errors import ConfigError
from admm_exp.pruning.groups import find_groups
from admm_exp.pruning.layers_file import read_layers, write_layers
from admm_exp.pruning.sparsities import group_sparsities


@pytest.fixture
def layers(tmp_path):
    """Write a layers file with the text given and return its path."""

    def write(text):
        path = tmp_path / "layers.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", ["residual", "mlp", "dense_block", "gated"])
def test_written_file_reads_as_the_same_sparsities(tmp_path, name):
    prunable = find_groups(*build(name))
    sparsities = tuple(round(0.07 * (i + 1), 2) for i in range(len(prunable.groups)))
    write_layers(tmp_path / "layers.yaml", prunable.groups, sparsities, 0.5)
    default, by_layer = read_layers(tmp_path / "layers.yaml", 0.9)
    assert default == 0.5
    assert group_sparsities(prunable, default, by_layer) == sparsities
    assert list(by_layer) == [group.name for group in prunable.groups]


def test_written_file_tells_the_channels_and_ties(tmp_path):
    groups = find_groups(*build("residual")).groups
    write_layers(tmp_path / "layers.yaml", groups, [0.5] * len(groups), 0.5)
    lines = (tmp_path / "layers.yaml").read_text().splitlines()
    assert "  stem.0: 0.5 # 8 channels, tied with same.3" in lines
    assert "  wider.0: 0.5 # 6 channels" in lines


def test_written_file_names_what_stays_whole_without_setting_it(tmp_path):
    prunable = find_groups(*build("mlp"))
    path = tmp_path / "layers.yaml"
    write_layers(path, prunable.groups, [0.5, 0.5], 0.5, prunable.kept)
    reason = "its channels are the output of the network"
    assert path.read_text().splitlines()[-1] == f"# kept whole: 4: {reason}"
    assert read_layers(path, 0.0) == (0.5, {"0": 0.5, "2": 0.5})


def test_written_file_is_replaced_and_its_folder_made(tmp_path):
    groups = find_groups(*build("mlp")).groups
    path = tmp_path / "new" / "layers.yaml"
    for rate in (0.25, 0.75):
        write_layers(path, groups, [rate] * len(groups), rate)
    assert read_layers(path, 0.0) == (0.75, {group.name: 0.75 for group in groups})
    assert [file.name for file in path.parent.iterdir()] == ["layers.yaml"]


def test_reading_leaves_the_users_file_as_it_is(layers):
    text = "# mine\nsparsity: {default: 0.5, fc: 0.3}   # keep\n"
    path = layers(text)
    read_layers(path, 0.9)
    assert path.read_text() == text


def test_file_without_default_takes_that_of_the_settings(layers):
    assert read_layers(layers("sparsity: {fc: 0.3}"), 0.9) == (0.9, {"fc": 0.3})


def test_default_alone_is_enough(layers):
    assert read_layers(layers("sparsity: {default: 0.25}"), 0.9) == (0.25, {})


def test_number_is_a_layer_name_like_any_other(layers):
    assert read_layers(layers("sparsity: {0: 0.3, 10: 0.5}"), 0.9) == (0.9, {"0": 0.3, "10": 0.5})


def test_path_may_be_a_string(layers):
    assert read_layers(str(layers("sparsity: {fc: 0.3}")), 0.9) == (0.9, {"fc": 0.3})


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
    with pytest.raises(ConfigError, match=r"^layers=.* must hold one mapping `sparsity:` with .*$"):
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
    default, by_layer = read_layers(layers(f"sparsity: {{'0': {value}}}"), 0.5)
    with pytest.raises(ConfigError, match=r"^sparsity of 0 must be a number in \[0, 1\), got "):
        group_sparsities(prunable, default, by_layer)


def test_names_that_yaml_takes_for_numbers_and_booleans_stay_apart(layers):
    path = layers("sparsity: {1.1: 0.1, 1.10: 0.2, 010: 0.3, on: 0.4, 1_0: 0.5, ~: 0.6}")
    _, by_layer = read_layers(path, 0.9)
    assert by_layer == {"1.1": 0.1, "1.10": 0.2, "010": 0.3, "on": 0.4, "1_0": 0.5, "~": 0.6}


def test_nested_sequences_with_ten_layers_are_written_and_read(tmp_path):
    inner = [layer for _ in range(6) for layer in (nn.Linear(6, 6), nn.ReLU())]
    model = nn.Sequential(nn.ReLU(), nn.Sequential(*inner), nn.Linear(6, 2))
    prunable = find_groups(model, torch.randn(2, 6))
    sparsities = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    write_layers(tmp_path / "layers.yaml", prunable.groups, sparsities, 0.0)
    _, by_layer = read_layers(tmp_path / "layers.yaml", 0.0)
    assert "1.10" in by_layer
    assert group_sparsities(prunable, 0.0, by_layer) == sparsities


def test_name_given_twice_is_refused(layers):
    with pytest.raises(ConfigError, match=r"is not valid YAML \(fc stands here twice\)"):
        read_layers(layers("sparsity:\n  fc: 0.3\n  conv: 0.1\n  fc: 0.5\n"), 0.5)
