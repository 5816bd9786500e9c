import sys
from datetime import date

import pytest
from conftest import run_command
from torch import nn

from admm_exp.bench import support_matrix
from admm_exp.bench.support_matrix import examine, examine_apart
from admm_exp.bench.support_table import Examined, as_markdown
from admm_exp.bench.timm_families import FAMILIES
from admm_exp.models.torchvision_zoo import classifier_names

MEMORY_BYTES = 2.5e9
ENDLESS = """
import multiprocessing, time
from torch import nn
from admm_exp.bench import support_matrix

class Endless(nn.Module):
    def forward(self, images):
        while time.time() > 0:
            images = images + 1

support_matrix.torchvision_model = lambda *_: Endless()
support_matrix.smallest_input = lambda _: 8
context = multiprocessing.get_context("fork")  # this process has no threads, and all imports
multiprocessing.get_context = lambda _: context
print(support_matrix.examine_apart("some", 1, 2.5e9).result)
raise SystemExit(0)
"""


@pytest.fixture
def network(monkeypatch):
    """Examine this instead of a network of torchvision."""

    def use(builder):
        monkeypatch.setattr(support_matrix, "torchvision_model", lambda *_: builder())
        monkeypatch.setattr(support_matrix, "smallest_input", lambda _: 8)

    return use


def pooled(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_network_that_can_be_pruned_is_ok(network):
    network(lambda: pooled(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 1)))
    row = examine("some", MEMORY_BYTES)
    assert (row.result, row.groups, row.kept, row.pixels) == ("ok", 1, 1, 8)
    assert row.params == 3 * 8 * 9 + 8 + 8 * 10 + 10
    assert row.params_left == pytest.approx((3 * 4 * 9 + 4 + 4 * 10 + 10) / row.params)
    assert row.difference < 1e-5
    assert row.macs == 36 * 8 * 27 + 36 * 8 * 10
    assert row.macs_removed == pytest.approx(0.5)
    assert row.kept_whole == ""


def test_what_stayed_whole_is_told_once_with_its_reason(network):
    def block():
        return nn.Sequential(nn.Conv2d(8, 8, 1), nn.Softmax(1))

    network(
        lambda: pooled(
            nn.Sequential(nn.Conv2d(3, 8, 1), block(), block()),
            nn.Conv2d(8, 6, 1),
            nn.Conv2d(6, 10, 1),
        )
    )
    row = examine("some", MEMORY_BYTES)
    assert row.kept_whole == "0.1.0 and 1 like it: 0.#.# (Softmax) mixes its channels"


def test_network_of_timm_is_examined_under_its_family():
    pytest.importorskip("timm")
    assert "deit_tiny_patch16_224" in FAMILIES.values()
    row = examine("timm/mobilenetv3_small_050", MEMORY_BYTES)
    assert (row.network, row.result, row.pixels) == ("timm/mobilenetv3_small_050", "ok", 64)
    assert row.macs_removed > 0.5


def test_network_without_prunable_channels_is_refused_with_the_layer(network):
    network(lambda: pooled(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 10, 3, padding=1)))
    row = examine("some", MEMORY_BYTES)
    assert row.result.startswith("refused: the model has nothing to prune (0: its channels are not")


def test_network_that_does_not_end_is_stopped(tmp_path):
    done = run_command(tmp_path, before=ENDLESS)
    assert done.stdout == "hangs: not done after 1 s\n", done.stderr


def test_blocks_that_look_like_the_one_before_are_left_out_of_a_large_network(network):
    def block():
        return nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())

    network(
        lambda: pooled(
            nn.Conv2d(3, 8, 1), nn.Sequential(*(block() for _ in range(5))), nn.Conv2d(8, 10, 1)
        )
    )
    row = examine("some", memory_bytes=1.0)
    assert (row.result, row.layers_left_out, row.groups) == ("ok", 4, 2)


def test_blocks_of_a_list_are_left_out_and_counted_anew(network):
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            blocks = [nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()) for _ in range(5)]
            self.stem, self.blocks = nn.Conv2d(3, 8, 1), nn.ModuleList(blocks)
            self.head = pooled(nn.Conv2d(8, 10, 1))

        def forward(self, images):
            images = self.stem(images)
            for i in range(len(self.blocks)):
                images = self.blocks[i](images)
            return self.head(images)

    network(Listed)
    row = examine("some", memory_bytes=1.0)
    assert (row.result, row.layers_left_out, row.groups) == ("ok", 4, 2)


def test_one_step_of_training_leaves_a_network_with_large_gradients_finite(network):
    class Loud(nn.Sequential):
        def forward(self, images):
            return 1e15 * super().forward(images)

    layers = nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 10, 1)
    network(lambda: Loud(pooled(*layers)))
    assert examine("some", MEMORY_BYTES).result == "ok"


def test_table_counts_the_results_and_has_a_line_per_network():
    rows = [
        Examined("a", "ok"),
        Examined("b", "refused: c | d"),
        Examined("e", "ok", params=1234567, macs_removed=0.5, total_seconds=3.4),
    ]
    lines = as_markdown(rows).splitlines()
    assert lines[0] == (
        "3 networks: 2 ok, 0 wrong, 0 fails, 1 refused; 1 lose at least 20 % of their MACs, "
        "the median 0 %; the slowest is e with 3 s."
    )
    assert lines[2].startswith("| network | result |")
    assert lines[5].startswith("| b | refused: c / d |")
    assert "| 1,234,567 |" in lines[6]


def test_table_says_what_was_run_when_and_on_which_code(monkeypatch, tmp_path):
    table = tmp_path / "table.md"
    words = ["support_matrix", "some", "--memory-gb", "0.5", "--output", str(table)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(support_matrix, "ask_git", lambda *_: "abc1234")
    monkeypatch.setattr(support_matrix, "examine_apart", lambda name, *_: Examined(name, "ok"))
    support_matrix.main()
    assert table.read_text().splitlines()[2] == (
        "`python -m admm_exp.bench.support_matrix some --memory-gb 0.5` "
        f"on {date.today()} at abc1234, one thread."
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", classifier_names())
def test_classifier_of_torchvision_is_pruned_without_loss(name):
    assert examine_apart(name, 300, MEMORY_BYTES).result == "ok"


def test_help_keeps_a_line_for_every_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["support_matrix", "--help"])
    with pytest.raises(SystemExit):
        support_matrix.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("python -m admm_exp.bench.support_matrix") for line in lines) == 4
