"""Odd code of networks that people wrote, cut without loss: one small network per kind."""

import pytest
import torch
import torch.nn.functional as F
from support.halves import assert_halves, halved, prunable
from torch import nn

from admm_exp.errors import ModelError
from admm_exp.pruning.surgery.find import find_groups


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


IMAGES, TOKENS, VECTORS = drawn(4, 3, 8, 8), drawn(4, 6, 32), drawn(8, 12)


class Images(nn.Module):
    """Convolution a, `body`, convolution b and a head; `parts` are layers of the body."""

    def __init__(self, body, **parts):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 1)
        self.fc, self.body = nn.Linear(12, 4), body
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.fc(F.relu(self.b(self.body(self, self.a(x)))).mean((2, 3)))


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (lambda s, y: s.n(y), {"n": nn.BatchNorm2d(16, affine=False)}),
        (lambda s, y: s.g(y.sigmoid()), {"g": nn.Conv2d(16, 16, 3, groups=4)}),
        (lambda s, y: s.t(F.relu(y)), {"t": nn.ConvTranspose2d(16, 16, 2, 2, groups=4)}),
        (lambda s, y: F.relu(y) + s.table, {"table": drawn(1, 16, 8, 8)}),
        (lambda s, y: y * s.table[:, :, :1].expand(-1, -1, 8, 8), {"table": drawn(1, 16, 8, 8)}),
        (lambda s, y: torch.fft.ifft2(torch.fft.fft2(y) * 2).real, {}),
        (lambda s, y: torch.view_as_real(torch.complex(y, y.tanh())).sum(-1), {}),
        (lambda s, y: torch.maximum(F.relu(y), torch.zeros(1, y.shape[1], 1, 1)), {}),
        (lambda s, y: y.flatten(2).median(2)[0][..., None, None] + y, {}),
    ],
    ids=[
        *("plain_batch_norm", "folded_in_groups", "grouped_transposed", "table", "slice_of_table"),
        *("fourier", "complex", "zeros_of_the_width", "median"),
    ],
)
def test_images(body, parts):
    assert_halves(Images(body, **parts), IMAGES, "a", "b")


def test_a_shortcut_padded_with_zeros_stays_as_wide_as_its_branch():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(n, m, 1) for n, m in ((3, 16), (16, 24), (24, 24)))
            self.fc = nn.Linear(24, 4)

        def forward(self, x):
            y = F.relu(self.a(x))
            wide = F.pad(y, (0, 0, 0, 0, 4, 4))
            return self.fc(F.relu(self.c(F.relu(self.b(y))) + wide).mean((2, 3)))

    small = assert_halves(Padded(), IMAGES, "a", "b")
    assert (small.a.out_channels, small.c.out_channels) == (8, 16)


class Grouped(nn.Module):
    """Eight heads of queries share two heads of keys and values, as `share` says."""

    def __init__(self, share):
        super().__init__()
        self.n_heads, self.n_shared, self.size, self.share = 8, 2, 4, share
        self.q, self.o, self.fc = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 5)
        self.k, self.v = nn.Linear(32, 8), nn.Linear(32, 8)

    def forward(self, x):
        n, t, _ = x.shape
        q = self.q(x).view(n, t, self.n_heads, self.size).transpose(1, 2)
        k, v = (f(x).view(n, t, self.n_shared, self.size).transpose(1, 2) for f in (self.k, self.v))
        y = self.share(self, q, k, v)
        return self.fc(self.o(y.transpose(1, 2).reshape(n, t, -1)).mean(1))


@pytest.mark.parametrize(
    "share",
    [
        lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        lambda s, q, k, v: F.scaled_dot_product_attention(
            q, k.repeat_interleave(s.n_heads // s.n_shared, 1), v.repeat_interleave(4, 1)
        ),
    ],
    ids=["flag", "repeated"],
)
def test_heads_that_share_keys_are_cut_with_them(share):
    small = assert_halves(Grouped(share), TOKENS, "q", "o")
    assert (small.n_heads, small.n_shared, small.k.out_features) == (4, 1, 4)


class Recurrent(nn.Module):
    """A GRU written by hand, whose first state is as wide as an attribute says."""

    def __init__(self):
        super().__init__()
        self.width = 16
        self.x, self.h, self.fc = nn.Linear(32, 48), nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, x):
        h = x.new_zeros(len(x), self.width)
        for step in x.unbind(1):
            a, b, c = self.x(step).chunk(3, 1)
            d, e, f = self.h(h).chunk(3, 1)
            z = (b + e).sigmoid()
            h = (1 - z) * (c + (a + d).sigmoid() * f).tanh() + z * h
        return self.fc(h)


def test_a_recurrence_by_hand_is_cut_with_its_first_state():
    small = assert_halves(Recurrent(), TOKENS, "x")
    assert (small.width, small.h.in_features, small.h.out_features) == (8, 8, 24)


class Graph(nn.Module):
    """Messages along edges, added up by `add`."""

    def __init__(self, add):
        super().__init__()
        self.a, self.b, self.add = nn.Linear(12, 16), nn.Linear(16, 4), add

    def forward(self, x, edges):
        h = F.relu(self.a(x))
        return self.b(self.add(torch.zeros_like(h), edges[1], h[edges[0]]))


@pytest.mark.parametrize(
    "add",
    [
        lambda zero, to, message: zero.index_add(0, to, message),
        lambda zero, to, message: zero.scatter_add(0, to[:, None].expand_as(message), message),
        lambda zero, to, message: message.gather(0, to[:, None].expand_as(message)),
    ],
    ids=["index_add", "scatter_add", "gather"],
)
def test_messages_of_a_graph(add):
    edges = torch.randint(0, 8, (2, 8), generator=torch.Generator().manual_seed(1))
    assert_halves(Graph(add), (VECTORS, edges), "a")


def test_channels_behind_distances_between_rows():
    class Near(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 3)

        def forward(self, x):
            h = F.relu(self.a(x))
            return self.b(h), torch.cdist(h, h)

    assert_halves(Near(), VECTORS, "a")


def test_a_bag_of_embeddings():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.a = nn.EmbeddingBag(9, 16, mode="mean"), nn.Linear(16, 3)

        def forward(self, ids):
            return self.a(F.relu(self.e(ids)))

    ids = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(2))
    assert_halves(Bag(), ids, "e")


def test_of_an_outer_product_the_larger_factor_is_cut():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(12, 16), nn.Linear(12, 4), nn.Linear(16, 3)

        def forward(self, x):
            return self.c((self.a(x)[:, :, None] * self.b(x)[:, None]).sum(2))

    pruner, _, _ = halved(Outer(), VECTORS)
    assert prunable(pruner) == {"a"}
    assert_halves(Outer(), VECTORS, "a")


def test_an_attribute_that_an_assertion_counts_by_is_set():
    class Checked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.width = nn.Linear(12, 16), nn.Linear(16, 3), 16

        def forward(self, x):
            h = F.relu(self.a(x))
            assert h.shape[1] == self.width
            return self.b(h)

    assert assert_halves(Checked(), VECTORS, "a").width == 8


def test_the_largest_entries_by_topk_keep_the_layer_with_a_reason():
    class Winners(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 3)

        def forward(self, x):
            h = self.a(x)
            return self.b(h * (h >= h.topk(4)[0][:, -1:]))

    with pytest.raises(ModelError, match=r"a: the Winners mixes its channels in test_odd_code"):
        find_groups(Winners(), VECTORS)


def test_complex_parameters_stay_whole_with_a_reason():
    class Rotating(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(12, 16)
            self.w = nn.Parameter(torch.randn(16, 6, dtype=torch.cfloat))
            self.v = nn.Parameter(torch.randn(6, 3, dtype=torch.cfloat))

        def forward(self, x):
            return ((F.relu(self.a(x)).to(torch.cfloat) @ self.w) @ self.v).abs()

    found = find_groups(Rotating(), VECTORS)
    assert "w holds complex numbers" in [group.reason for group in found.kept]


def test_a_head_that_shares_its_weight_with_an_embedding_is_not_said_to_be_idle():
    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.a, self.b = nn.Embedding(9, 16), nn.Linear(16, 24), nn.Linear(24, 16)
            self.head = nn.Linear(16, 9, bias=False)
            self.head.weight = self.e.weight

        def forward(self, ids):
            x = self.e(ids)
            return self.head(x + self.b(F.relu(self.a(x))))

    ids = torch.randint(0, 9, (4, 5), generator=torch.Generator().manual_seed(3))
    assert [group.name for group in find_groups(Language(), ids).kept] == ["e.weight"]
