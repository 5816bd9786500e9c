"""One network per kind of layer: what is pruned, what is kept, and masked equals cut."""

import pytest
import torch
import torch.nn.functional as F
from support.networks import randomise_
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.pruning.constrained import ConstrainedModel


class Sequence(nn.Module):
    """A recurrent layer on (N, T, 6), read at its last step, and a linear layer."""

    def __init__(self, recurrent, features, joint=lambda outputs, state: outputs[:, -1]):
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(features, 5)
        self.joint = joint

    def forward(self, steps):
        return self.head(self.joint(*self.recurrent(steps)))


class Words(nn.Module):
    """An embedding, a GRU on top, and a decoder."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.gru = nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(6, 20)

    def forward(self, words):
        return self.head(self.gru(self.embedding(words))[0])


class Attention(nn.Module):
    """Attention of two heads whose widths are read off the tensors."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 8) for _ in range(3))
        self.out = nn.Linear(8, 5)

    def forward(self, steps):
        n, t, _ = steps.shape
        query, key, value = (
            layer(steps).view(n, t, 2, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = (0.5 * query @ key.transpose(-1, -2)).softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(n, t, -1))


class FusedAttention(nn.Module):
    """The same with one projection for all, and torch's own attention."""

    def __init__(self, scale):
        super().__init__()
        self.qkv, self.out, self.scale = nn.Linear(6, 24), nn.Linear(8, 5), scale

    def forward(self, steps):
        n, t, _ = steps.shape
        query, key, value = self.qkv(steps).view(n, t, 3, 2, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.out(mixed.transpose(1, 2).reshape(n, t, -1))


class HeadsOf6(FusedAttention):
    """Attention whose code knows the width of a head, and not how many there are."""

    def __init__(self):
        super().__init__(None)
        self.qkv, self.out = nn.Linear(6, 72), nn.Linear(24, 5)

    def forward(self, steps):
        n, t, _ = steps.shape
        query, key, value = self.qkv(steps).view(n, t, 3, -1, 6).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(n, t, -1))


class FusedAttentionOf8(FusedAttention):
    def __init__(self):
        super().__init__(None)
        self.qkv = nn.Linear(8, 24)


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


class LayerScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.height = (
            nn.Parameter(torch.ones(8, 1, 1)),
            nn.Parameter(torch.ones(1, 8, 1)),
        )

    def forward(self, images):
        return images * self.scale + F.relu(images) * self.height


class Tied(nn.Module):
    """One weight in two layers, and one layer twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(F.relu(self.stem(x))))))
        return self.head(F.relu(self.first(x)))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.used(x)))


def between(*layers, channels=8):
    """A convolution of 8 channels, the layers, and a 1x1 convolution to the classes."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers, nn.Conv2d(channels, 5, 1))


def encoder():
    layer = nn.TransformerEncoderLayer(6, 2, 16, batch_first=True, dropout=0.1)
    return nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(6, 5)
    )


LSTM, GRU = nn.LSTM, nn.GRU
STEPS, IMAGES, VECTORS = (4, 7, 6), (4, 3, 8, 8), (4, 6)
NETWORKS = {
    "lstm": (lambda: Sequence(LSTM(6, 8, batch_first=True), 8), STEPS, {"recurrent"}),
    "lstm_stacked": (lambda: Sequence(LSTM(6, 8, 3, batch_first=True), 8), STEPS, {"recurrent"}),
    "lstm_both_ways": (
        lambda: Sequence(LSTM(6, 8, 2, batch_first=True, bidirectional=True), 16),
        STEPS,
        {"recurrent"},
    ),
    "lstm_without_bias": (lambda: Sequence(LSTM(6, 8, bias=False), 8), STEPS, {"recurrent"}),
    "lstm_projected": (
        lambda: Sequence(LSTM(6, 8, 2, batch_first=True, proj_size=4), 4),
        STEPS,
        {"recurrent", "recurrent.weight_hr_l0"},
    ),
    "lstm_state": (
        lambda: Sequence(LSTM(6, 8, 2), 8, lambda outputs, state: state[0][1] + state[1][1]),
        STEPS,
        {"recurrent"},
    ),
    "gru": (lambda: Sequence(GRU(6, 8, batch_first=True), 8), STEPS, {"recurrent"}),
    "gru_both_ways": (
        lambda: Sequence(GRU(6, 8, 2, batch_first=True, bidirectional=True), 16),
        STEPS,
        {"recurrent"},
    ),
    "rnn": (lambda: Sequence(nn.RNN(6, 8, nonlinearity="relu"), 8), STEPS, {"recurrent"}),
    "words": (Words, (4, 7), {"embedding", "gru"}),
    "encoder": (
        encoder,
        STEPS,
        {f"0.layers.{i}.{layer}" for i in (0, 1) for layer in ("self_attn", "linear1")},
    ),
    "attention": (Attention, STEPS, {"query", "value"}),
    "fused_attention": (lambda: FusedAttention(0.5), STEPS, {"qkv"}),
    "heads": (HeadsOf6, STEPS, {"qkv"}),
    "layer_norm_mlp": (
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 5)
        ),
        VECTORS,
        {"0", "2"},
    ),
    "depthwise_multiplier": (
        lambda: between(nn.Conv2d(8, 16, 3, padding=1, groups=8), channels=16),
        IMAGES,
        {"0"},
    ),
    "depthwise_transposed": (
        lambda: between(nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8)),
        IMAGES,
        {"0"},
    ),
    "transposed_1d": (
        lambda: nn.Sequential(
            nn.Conv1d(7, 8, 3),
            nn.ReLU(),
            nn.ConvTranspose1d(8, 6, 3),
            nn.ReLU(),
            nn.Conv1d(6, 5, 1),
        ),
        STEPS,
        {"0", "2"},
    ),
    "transposed_3d": (
        lambda: nn.Sequential(
            nn.Conv3d(3, 8, 3),
            nn.ReLU(),
            nn.ConvTranspose3d(8, 6, 3),
            nn.ReLU(),
            nn.Conv3d(6, 5, 1),
        ),
        (2, 3, 4, 4, 4),
        {"0", "2"},
    ),
    "instance_norm_tracking": (
        lambda: between(nn.InstanceNorm2d(8, affine=True, track_running_stats=True)),
        IMAGES,
        {"0"},
    ),
    "instance_norm_plain": (lambda: between(nn.InstanceNorm2d(8)), IMAGES, {"0"}),
    "chunk": (
        lambda: between(Apply(lambda x: torch.mul(*x.chunk(2, 1))), channels=4),
        IMAGES,
        {"0"},
    ),
    "glu": (lambda: between(nn.GLU(1), channels=4), IMAGES, {"0"}),
    "channel_shuffle": (lambda: between(nn.ChannelShuffle(2)), IMAGES, {"0"}),
    "pixel_shuffle": (lambda: between(nn.PixelShuffle(2), channels=2), IMAGES, {"0"}),
    "pixel_unshuffle": (lambda: between(nn.PixelUnshuffle(2), channels=32), IMAGES, {"0"}),
    "layer_scale": (lambda: between(LayerScale()), IMAGES, {"0"}),
    "shared_weight": (Tied, VECTORS, {"stem"}),
    "unused_branch": (Unused, VECTORS, {"used"}),
    "hard_swish_gate": (
        lambda: between(Apply(lambda x: x * F.hardsigmoid(x) + F.hardswish(x))),
        IMAGES,
        {"0"},
    ),
    "reflected": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv2d(8, 5, 3, padding=1, padding_mode="circular"),
        ),
        IMAGES,
        {"0"},
    ),
}


def built(name):
    builder, shape, prunable = NETWORKS[name]
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = randomise_(builder()).eval()
    inputs = torch.randn(shape, generator=generator)
    if name == "words":
        inputs = torch.randint(20, shape, generator=generator)
    constrained = ConstrainedModel(model, inputs, sparsity=0.5, metric=L2Norm(), rho=1.0)
    return constrained, inputs, prunable


@pytest.mark.parametrize("name", NETWORKS)
def test_layer_loses_half_of_its_channels_without_loss(name):
    constrained, inputs, prunable = built(name)
    assert {group.name for group in constrained.groups} == prunable
    small, _ = constrained.removal().finish(inputs)
    with torch.no_grad():
        masked, dense = constrained.removal().masked()(inputs), constrained.model(inputs)
        difference = (small(inputs) - masked).abs().max() / masked.abs().max()
    assert difference < 1e-5
    assert (dense - masked).abs().max() > 0.05 * dense.abs().max(), "the mask changes nothing"
    sizes = [sum(p.numel() for p in m.parameters()) for m in (constrained.model, small)]
    assert sizes[1] < sizes[0]
    small.train()(inputs).square().mean().backward()
    unused = {n for n, p in small.named_parameters() if p.grad is None}
    assert unused <= {"unused.weight", "unused.bias"}


def test_size_that_a_reshape_leaves_open_decides_between_heads_and_their_width():
    heads, widths = built("heads")[0].groups[0], built("fused_attention")[0].groups[0]
    assert (heads.n_units, heads.width) == (4, 6)
    assert (widths.n_units, widths.width) == (4, 2)


class Started(nn.Module):
    """An LSTM that starts from a learned or from a constant state."""

    def __init__(self, state):
        super().__init__()
        self.lstm, self.head, self.state = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 5), state
        self.inner = nn.Linear(6, 6)

    def forward(self, steps):
        state = self.state.expand(1, len(steps), 8).contiguous()
        return self.head(self.lstm(self.inner(steps), (state, state))[0])


@pytest.mark.parametrize(
    ("builder", "layer", "reason"),
    [
        (lambda: Started(torch.ones(1, 1, 8)), "lstm", "starts from a state that is not zero"),
        (
            lambda: nn.Sequential(nn.Linear(6, 8), FusedAttentionOf8(), nn.Linear(5, 5)),
            "1.qkv",
            "1 (FusedAttentionOf8) scales by the width of a head",
        ),
    ],
    ids=["state", "scale"],
)
def test_layer_that_cannot_shrink_is_kept_with_the_reason(builder, layer, reason):
    inputs = torch.randn(STEPS, generator=torch.Generator().manual_seed(1))
    constrained = ConstrainedModel(
        randomise_(builder()), inputs, sparsity=0.5, metric=L2Norm(), rho=1.0
    )
    (kept,) = [group for group in constrained.prunable.kept if layer in group.producers]
    assert reason in kept.reason
    constrained.removal().finish(inputs)


def test_layers_and_directions_of_a_recurrence_lose_the_same_units():
    constrained, inputs, _ = built("lstm_both_ways")
    small, _ = constrained.removal().finish(inputs)
    kept = constrained.state.support[0].nonzero().flatten()
    rows = torch.cat([gate * 8 + kept for gate in range(4)])
    columns = torch.cat([kept, 8 + kept])
    old, new = constrained.removal().masked().recurrent, small.recurrent
    assert torch.equal(new.weight_hh_l1_reverse, old.weight_hh_l1_reverse[rows][:, kept])
    assert torch.equal(new.weight_ih_l1, old.weight_ih_l1[rows][:, columns])
    assert (new.hidden_size, new.input_size) == (4, 6)
