import pytest
import torch
import torch.nn.functional as F
from torch import nn

from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.randomised import randomise_
from admm_exp.pruning.surgery.surgery import compare, cut, zero_

IMAGES = torch.randn(2, 3, 6, 6)


class Joined(nn.Module):
    """Two convolutions side by side, and what is done with both together."""

    def __init__(self, rest, channels=16):
        super().__init__()
        self.a, self.b, self.rest = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), rest
        self.head = nn.Conv2d(channels, 5, 1)

    def forward(self, x):
        return self.head(F.relu(self.rest(torch.cat([self.a(x), self.b(x)], 1))))


class Added(Joined):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 16, 1))

    def forward(self, x):
        return self.head(F.relu(torch.cat([self.a(x), self.b(x)], 1) + self.rest(x)))


def groups_of(model):
    return {group.name: group for group in find_groups(randomise_(model), IMAGES).groups}


def is_cut_without_loss(model, groups, sparsity):
    found = list(groups.values())
    support = []
    for group in found:
        size = group.n_units // group.n_blocks
        kept = group.count_kept(sparsity) // group.n_blocks
        scores = torch.rand(group.n_blocks, size, generator=torch.Generator().manual_seed(1))
        support.append((scores.argsort(1).argsort(1) < kept).flatten())
    masked = zero_(model, found, support)
    return compare(masked, cut(masked, found, support), IMAGES).relative < 1e-5


def test_units_are_tied_one_by_one_and_not_by_the_layer():
    model = Added()
    groups = groups_of(model)
    assert {name: group.n_units for name, group in groups.items()} == {"a": 8, "b": 8}
    assert groups["a"].producers == ("a", "rest")
    assert groups["b"].producers == ("b", "rest")
    assert is_cut_without_loss(model, groups, 0.3)


def test_layer_that_is_tied_to_all_gives_none_of_the_groups_its_name():
    class First(Added):
        def __init__(self):
            super().__init__()
            self._modules = {"rest": self._modules.pop("rest"), **self._modules}

    assert set(groups_of(First())) == {"a", "b"}


@pytest.mark.parametrize("blocks", [2, 4])
def test_grouped_convolution_over_several_layers_keeps_the_count_of_every_block(blocks):
    model = Joined(nn.Conv2d(16, 16, 3, padding=1, groups=blocks))
    groups = groups_of(model)
    assert {name: group.n_blocks for name, group in groups.items()} == {
        "a": blocks // 2,
        "b": blocks // 2,
        "rest": blocks,
    }
    assert groups["a"].steps == groups["b"].steps is not None
    assert is_cut_without_loss(model, groups, 0.5)


def test_group_norm_over_several_layers_keeps_the_count_of_every_group():
    model = Joined(nn.GroupNorm(4, 16))
    groups = groups_of(model)
    assert [(group.n_units, group.n_blocks) for group in groups.values()] == [(8, 2), (8, 2)]
    assert is_cut_without_loss(model, groups, 0.5)


def test_layer_that_makes_channels_of_the_input_stays_whole():
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 1)
    )
    found = find_groups(model, IMAGES)
    assert [group.name for group in found.groups] == ["1"]
    assert [group.name for group in found.kept] == ["0", "3"]
