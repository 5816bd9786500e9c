"""Sizes inside of configuration objects, dicts and records."""

import dataclasses
from collections import namedtuple
from enum import IntEnum
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from support.halves import assert_halves, halved, prunable
from torch import nn

from admm_exp.export.saved_model import load, save_model
from admm_exp.pruning.dependency.containers import integers_in, replaced

TOKENS = torch.randn(4, 6, 32, generator=torch.Generator().manual_seed(0))


@dataclasses.dataclass
class Settings:
    heads: int = 4
    size: int = 8
    name: str = "tiny"


@dataclasses.dataclass(frozen=True)
class Frozen:
    heads: int = 4
    size: int = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    heads: int = 4
    size: int = 8


class Config:
    """A configuration as of language models, that compares and prints by what it holds."""

    def __init__(self):
        self.heads, self.size, self.extra = 4, 8, {"drop": 0.1}


Record = namedtuple("Record", "heads size")


class Block(nn.Module):
    """Attention whose number of heads and their width stand in a configuration."""

    def __init__(self, config, read):
        super().__init__()
        self.config, self.read = config, read
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x):
        heads, size = self.read(self.config)
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, heads, size).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return x + self.out(y.reshape(*x.shape[:2], heads * size))


class Tower(nn.Module):
    """Two blocks that share one configuration object."""

    def __init__(self, config, read=lambda c: (c.heads, c.size)):
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, read) for _ in range(2))
        self.fc = nn.Linear(32, 5)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean(1))


def by_key(config):
    return config["heads"], config["size"]


HOLDERS = {
    "dataclass": (Settings, lambda c: (c.heads, c.size)),
    "frozen": (Frozen, lambda c: (c.heads, c.size)),
    "slots": (Slotted, lambda c: (c.heads, c.size)),
    "object": (Config, lambda c: (c.heads, c.size)),
    "namespace": (lambda: SimpleNamespace(heads=4, size=8), lambda c: (c.heads, c.size)),
    "dict": (lambda: {"heads": 4, "size": 8}, by_key),
    "record": (lambda: Record(4, 8), lambda c: (c.heads, c.size)),
    "nested": (lambda: {"model": Settings()}, lambda c: (c["model"].heads, c["model"].size)),
    "tuple in dict": (lambda: {"of": (4, 8)}, lambda c: c["of"]),
    "width over heads": (Settings, lambda c: (c.heads, 32 // 4)),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_heads_counted_by_a_configuration_are_cut(name):
    make, read = HOLDERS[name]
    config = make()
    small = assert_halves(Tower(config, read), TOKENS, "blocks.0.qkv", "blocks.1.qkv")
    assert read(small.blocks[0].config)[0] == 2
    assert config == make() or vars(config) == vars(make()), "the user's own object stays"


class Dim(Tower):
    """The width of a head is computed from two sizes of the configuration."""

    def __init__(self):
        config = SimpleNamespace(heads=4, width=32)
        super().__init__(config, lambda c: (c.heads, c.width // c.heads))


def test_head_widths_computed_from_two_sizes_are_cut():
    assert_halves(Dim(), TOKENS, "blocks.0.qkv")


class OfClass(nn.Module):
    """A split size that is an attribute of the class."""

    half = 8

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(32, 16), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        p, q = self.a(x).split((self.half, self.half), -1)
        return self.c(F.relu(self.b(p * q)))


def test_sizes_of_the_class_are_set_on_the_object():
    small = assert_halves(OfClass(), TOKENS, "a")
    assert (small.half, OfClass.half) == (4, 8)


class Store(nn.Module):
    """Two layers hand features over in one dict that also counts."""

    def __init__(self):
        super().__init__()
        self.store = {"steps": 3}
        self.a, self.b = nn.Linear(32, 16), nn.Linear(16, 4)
        self.reader = Reader(self.store)

    def forward(self, x):
        self.store["seen"] = F.relu(self.a(x))
        return self.b(self.reader(x))


class Reader(nn.Module):
    def __init__(self, store):
        super().__init__()
        self.store = store

    def forward(self, x):
        return self.store.pop("seen")


def test_a_dict_that_modules_share_is_left_whole():
    assert_halves(Store(), TOKENS, "a")


def test_numbers_of_an_enumeration_are_no_sizes():
    class Mode(IntEnum):
        MANY = 4

    assert list(integers_in({"mode": Mode.MANY, "n": 4, "yes": True, "a.b": 5})) == [(".n", 4)]


def test_what_is_replaced_is_a_copy():
    before = {"model": Settings(), "rest": [1, 2]}
    after = replaced(before, ["model", "heads"], 3)
    assert (before["model"].heads, after["model"].heads) == (4, 3)
    assert after["rest"] is before["rest"]


@pytest.mark.parametrize("name", ["frozen", "dict", "nested", "tuple in dict", "object"])
def test_a_loaded_network_has_the_sizes_of_the_small_one(tmp_path, name):
    make, read = HOLDERS[name]
    _, _, small = halved(Tower(make(), read), TOKENS)
    save_model(small, Tower(make(), read), {}, TOKENS, tmp_path)
    loaded = load(tmp_path, Tower(make(), read)).eval()
    assert read(loaded.blocks[0].config) == read(small.blocks[0].config)
    assert torch.equal(loaded(TOKENS), small(TOKENS))


class Positions(nn.Module):
    """Constants of the width, one of which no state dict holds."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(32, 16), nn.Linear(16, 4)
        table = torch.randn(16, generator=torch.Generator().manual_seed(2))
        self.register_buffer("table", table, persistent=False)

    def forward(self, x):
        return self.b(F.relu(self.a(x) * self.table))


def test_a_loaded_network_has_the_cut_buffers_that_are_not_persistent(tmp_path):
    pruner, _, small = halved(Positions(), TOKENS)
    assert prunable(pruner) == {"a"}
    assert small.table.shape == (8,)
    save_model(small, Positions(), {}, TOKENS, tmp_path)
    loaded = load(tmp_path, Positions()).eval()
    assert torch.equal(loaded.table, small.table)
    assert torch.equal(loaded(TOKENS), small(TOKENS))
