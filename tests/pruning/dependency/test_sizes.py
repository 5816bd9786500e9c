import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from support.halves import assert_halves, halved, prunable
from torch import nn

from admm_exp.pruning.dependency.sizes import Size, remembered, set_size_, traced_sizes
from admm_exp.pruning.surgery.find import find_groups

TOKENS = torch.randn(4, 6, 32, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    """Attention whose code counts on numbers; `split` makes queries, keys and values."""

    def __init__(self, split, join=lambda self, y: y.flatten(2), width=32, heads=4):
        super().__init__()
        self.dim, self.num_heads, self.head_dim = width, heads, width // heads
        self.scale = self.head_dim**-0.5
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.qkv, self.fc = nn.Linear(width, 3 * width), nn.Linear(width, 5)
        self.split, self.join = split, join

    def forward(self, x):
        q, k, v = (part.transpose(1, 2) for part in self.split(self, x))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.fc((x + self.o(self.join(self, y))).mean(1))


def each(sizes):
    def split(self, x):
        return [f(x).view(*x.shape[:2], *sizes(self)) for f in (self.q, self.k, self.v)]

    return split


def of_chunks(chunks):
    def split(self, x):
        return [t.view(*x.shape[:2], self.num_heads, self.head_dim) for t in chunks(self, x)]

    return split


SPLITS = {
    "heads and width": each(lambda self: (self.num_heads, self.head_dim)),
    "heads open": each(lambda self: (-1, self.head_dim)),
    "width open": each(lambda self: (self.num_heads, -1)),
    "width computed": each(lambda self: (self.num_heads, self.dim // self.num_heads)),
    "unflatten": lambda self, x: [
        f(x).unflatten(-1, (self.num_heads, self.head_dim)) for f in (self.q, self.k, self.v)
    ],
    "chunk": of_chunks(lambda self, x: self.qkv(x).chunk(3, -1)),
    "split": of_chunks(lambda self, x: self.qkv(x).split(self.dim, -1)),
    "slices": of_chunks(
        lambda self, x: (
            self.qkv(x)[..., : self.dim],
            self.qkv(x)[..., self.dim : 2 * self.dim],
            self.qkv(x)[..., 2 * self.dim :],
        )
    ),
    "three in front": lambda self, x: (
        self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).unbind(2)
    ),
    "three behind the heads": lambda self, x: [
        self.qkv(x).view(*x.shape[:2], self.num_heads, 3, self.head_dim)[..., i, :]
        for i in range(3)
    ],
}


@pytest.mark.parametrize("split", SPLITS.values(), ids=list(SPLITS))
@pytest.mark.parametrize(
    "join",
    [
        lambda self, y: y.flatten(2),
        lambda self, y: y.reshape(*y.shape[:2], self.dim),
        lambda self, y: y.reshape(*y.shape[:2], self.num_heads * self.head_dim),
    ],
    ids=["flatten", "dim", "product"],
)
def test_heads_are_cut_where_attributes_count_them(split, join):
    model = Attention(split, join)
    pruner, _, small = halved(model, TOKENS)
    assert prunable(pruner) & {"q", "v", "qkv"}
    assert small.o.in_features == 16
    assert small.head_dim == 8
    assert split is SPLITS["heads open"] or small.num_heads == 2
    assert (model.num_heads, model.dim) == (4, 32)
    assert_halves(Attention(split, join), TOKENS)


def test_widths_of_heads_are_cut_where_an_attribute_scales():
    class Manual(Attention):
        def forward(self, x):
            q, k, v = (t.transpose(1, 2) for t in self.split(self, x))
            y = (self.scale * q @ k.transpose(-2, -1)).softmax(-1) @ v
            return self.fc(self.o(y.transpose(1, 2).reshape(*x.shape[:2], self.dim)).mean(1))

    small = assert_halves(Manual(SPLITS["heads and width"]), TOKENS, "q")
    assert (small.num_heads, small.head_dim, small.dim) == (4, 4, 16)


class TrainingFunctions(nn.Module):
    """Channels in two parts of sizes that attributes say."""

    def __init__(self, body, first=4, second=8):
        super().__init__()
        self.first, self.second, self.n = first, second, 4
        self.sizes, self.listed = (first, second), [first, second]
        self.a, self.d = nn.Conv2d(3, first + second, 1), nn.Conv2d(6, 5, 1)
        self.p, self.q = nn.Conv2d(first, 6, 1), nn.Conv2d(second, 6, 1)
        self.body = body

    def forward(self, images):
        first, second = self.body(self, F.relu(self.a(images)))
        return self.d(F.relu(self.p(first) + self.q(second)))


@pytest.mark.parametrize(
    "body",
    [
        lambda self, y: y.split((self.first, self.second), 1),
        lambda self, y: torch.split(y, self.sizes, dim=1),
        lambda self, y: y.split(self.listed, dim=1),
        lambda self, y: (y[:, : self.first], y[:, self.first :]),
        lambda self, y: (y[:, : -self.second, ...], y[:, -self.second :]),
        lambda self, y: (
            y.narrow(1, 0, self.first),
            torch.narrow(y, dim=1, start=self.first, length=self.second),
        ),
        lambda self, y: y.split((self.first, 2 * self.first), 1),
        lambda self, y: (y[:, : y.shape[1] // 3], y[:, y.shape[1] // 3 :]),
    ],
    ids=["attributes", "tuple", "list", "slices", "from the end", "narrow", "product", "shape"],
)
def test_parts_of_sizes_that_attributes_say_are_cut(body):
    small = assert_halves(TrainingFunctions(body), IMAGES, "a")
    assert small.a.out_channels == 6
    assert small.n == 4  # has the value of an old size, and counts something else


def test_a_literal_keeps_channels_and_its_line_is_named():
    model = TrainingFunctions(lambda self, y: y.split((4, 8), 1))  # the literal
    (kept,) = [g for g in find_groups(model, IMAGES).kept if g.name == "a"]
    assert "takes its channels apart in test_sizes.py:" in kept.reason
    assert "# the literal" in kept.reason


@pytest.mark.parametrize("bounds", [lambda n: (2, 6), lambda n: (n // 4, 3 * n // 4)])
def test_a_slice_between_literals_stays_and_one_between_parts_of_the_width_follows(bounds):
    class Middle(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.d = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(10, 5, 1)

        def forward(self, images):
            first, second = bounds(self.a.out_channels)
            parts = [self.a(images)[:, first:second], self.b(images)]
            return self.d(torch.cat(parts, 1))

    found = find_groups(Middle(), IMAGES)
    kept = {group.name: group.reason for group in found.kept}
    if bounds(40) == (2, 6):
        assert "takes its channels apart in test_sizes.py:" in kept["a"]
    else:
        assert {group.name for group in found.groups} == {"a", "b"}


class Flat(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.c, self.n_features, self.pixels, self.shape = 8, 512, 64, shape
        self.a, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(512, 5)

    def forward(self, images):
        features = F.relu(self.a(images))
        return self.fc(features.view(-1, self.shape(self)))


@pytest.mark.parametrize(
    "shape", [lambda m: m.n_features, lambda m: m.c * 64, lambda m: m.pixels * m.c]
)
def test_flattened_sizes_follow_their_attributes(shape):
    assert_halves(Flat(shape), IMAGES, "a")


def test_a_flattened_literal_is_named():
    with pytest.raises(Exception, match=r"test_sizes\.py:\d+, \"return self\.fc\(features"):
        find_groups(Flat(lambda m: 512), IMAGES)


def test_an_unflatten_layer_follows():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(192, 128), nn.Unflatten(1, (8, 16)), nn.ReLU(), nn.Conv1d(8, 5, 1)
    )
    small = assert_halves(model, IMAGES, "1")
    assert small[2].unflattened_size == (4, 16)


@pytest.mark.parametrize("make", [torch.zeros, lambda *shape: torch.empty(1).new_zeros(*shape)])
def test_a_state_of_zeros_follows_its_attribute(make):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.fc = 8, nn.Linear(8, 4)
            self.lstm = nn.LSTM(3, 8, batch_first=True)

        def forward(self, x):
            state = tuple(make(1, len(x), self.hidden) for _ in range(2))
            return self.fc(self.lstm(x, state)[0][:, -1])

    small = assert_halves(Net(), torch.randn(4, 6, 3), "lstm")
    assert small.hidden == 4


def test_one_attribute_of_two_layers_ties_their_counts():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.a, self.b = 8, nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 1)
            self.d = nn.Conv2d(8, 5, 1)

        def forward(self, images):
            first, second = self.a(images).split(self.c, 1)
            third, fourth = self.b(images).split(self.c, 1)
            return self.d(first * second) + self.d(third * fourth)

    small = assert_halves(Two(), IMAGES, "a")
    assert (small.c, small.a.out_channels, small.b.out_channels) == (4, 8, 8)


def test_sizes_are_plain_integers_again_outside():
    model = TrainingFunctions(None)
    with traced_sizes(model):
        assert isinstance(model.first, Size)
        assert isinstance(model.sizes[1], Size)
        assert model.sizes[1].name == "sizes.1"
        assert not isinstance(model.a.out_channels, Size)
    assert type(model.first) is type(model.listed[0]) is int


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_size_is_copied_as_an_integer(again):
    assert type(again(Size(3, "layer", "name"))) is int


@pytest.mark.parametrize(
    ("other", "product", "factor"),
    [(3, 12, 3), (Size(2, "", "b"), 8, 2), (0, 0, None), (0.5, 2, None)],
)
def test_a_product_remembers_its_factor(other, product, factor):
    size = Size(4, "", "a")
    for found in (size * other, other * size) if not isinstance(other, Size) else (size * other,):
        assert found == product
        assert getattr(found, "factor", None) == factor


def test_flags_and_counts_of_one_are_no_sizes():
    model = TrainingFunctions(None)
    model.flag, model.one, model.name = True, 1, "x"
    assert dict(remembered(model)) == {
        "first": 4,
        "second": 8,
        "n": 4,
        "sizes.0": 4,
        "sizes.1": 8,
        "listed.0": 4,
        "listed.1": 8,
    }


@pytest.mark.parametrize(("name", "attribute"), [("sizes.1", "sizes"), ("listed.1", "listed")])
def test_an_entry_of_a_tuple_is_set_in_place(name, attribute):
    model = TrainingFunctions(None)
    kind = type(getattr(model, attribute))
    set_size_(model, name, 5)
    assert getattr(model, attribute) == kind((4, 5))
