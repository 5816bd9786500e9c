"""Attention loses whole heads: what is left computes the rest, as torch does."""

import copy

import pytest
import torch
from support.networks import randomise_
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.pruning.budget.layers_file import layers_text, read_layers
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.cost import count_cost
from admm_exp.pruning.dependency.attention import PrunedAttention
from admm_exp.pruning.surgery.find import find_groups
from admm_exp.pruning.surgery.sparsities import LayerSettings
from admm_exp.pruning.surgery.surgery import cut, zero_

KEPT = torch.tensor([True, False, False, True])


class Asked(nn.Module):
    """Attention of 4 heads of 3, over the tokens or over a memory made of them."""

    def __init__(self, is_cross=False, widths=(12, 12), batch_first=True, bias=True, **masks):
        super().__init__()
        own = {} if widths == (12, 12) else {"kdim": widths[0], "vdim": widths[1]}
        self.attention = nn.MultiheadAttention(12, 4, 0.1, bias, batch_first=batch_first, **own)
        self.keys, self.values = (nn.Linear(12, width) for width in widths)
        self.is_cross, self.masks = is_cross, masks
        self.head = nn.Linear(12, 5)

    def attend(self, tokens, need_weights=False):
        keys, values = tokens, tokens
        if self.is_cross:
            keys, values = self.keys(tokens), self.values(tokens)
        return self.attention(tokens, keys, values, need_weights=need_weights, **self.masks)

    def forward(self, tokens):
        return self.head(self.attend(tokens)[0])


PADDING = torch.tensor([[False] * 5, [False, False, False, True, True]])
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)
BIASES = torch.linspace(-1, 1, 25).view(5, 5)
ASKED = {
    "plain": {},
    "sequence_first": {"batch_first": False},
    "without_bias": {"bias": False},
    "cross": {"is_cross": True},
    "other_widths": {"is_cross": True, "widths": (7, 6)},
    "padding": {"key_padding_mask": PADDING},
    "causal": {"attn_mask": CAUSAL, "is_causal": True},
    "added_mask": {"attn_mask": BIASES},
    "both_masks": {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
    "cross_sequence_first": {"is_cross": True, "batch_first": False, "attn_mask": BIASES},
}


def tokens_for(options):
    shape = (2, 5, 12) if options.get("batch_first", True) else (5, 2, 12)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def masked_and_cut(model, tokens, kept=KEPT):
    """The network with the attention's removed heads at zero, and without them."""
    (group,) = [g for g in find_groups(model, tokens).groups if g.name.endswith("attention")]
    masked = zero_(copy.deepcopy(model), [group], [kept])
    return masked, cut(masked, [group], [kept])


def by_hand(attention, tokens, kept):
    """Softmax(Q K^T / sqrt(3)) V of every kept head, one by one, summed through the output."""
    total = attention.out_proj.bias
    for head in kept.nonzero().flatten().tolist():
        rows = slice(3 * head, 3 * head + 3)
        query, key, value = (
            tokens @ weight[rows].T + bias[rows]
            for weight, bias in zip(
                attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True
            )
        )
        weights = (query @ key.transpose(1, 2) / 3**0.5).softmax(-1)
        total = total + weights @ value @ attention.out_proj.weight[:, rows].T
    return total


def test_pruned_attention_is_the_sum_over_its_heads():
    model, tokens = randomise_(Asked()).eval(), tokens_for({})
    _, small = masked_and_cut(model, tokens)
    assert type(small.attention) is PrunedAttention
    expected = by_hand(model.attention, tokens, KEPT)
    torch.testing.assert_close(small.attend(tokens)[0], expected)
    torch.testing.assert_close(small.attend(tokens, need_weights=True)[0], expected)


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("need_weights", [False, True])
def test_pruned_attention_is_torchs_with_heads_of_zeros(name, need_weights):
    model, tokens = randomise_(Asked(**ASKED[name])).eval(), tokens_for(ASKED[name])
    masked, small = masked_and_cut(model, tokens)
    expected, _ = masked.attend(tokens, need_weights)
    torch.testing.assert_close(small.attend(tokens, need_weights)[0], expected)
    assert not torch.allclose(expected, model.attend(tokens)[0], atol=1e-2)


def test_attention_weights_are_those_of_the_heads_that_are_left():
    model, tokens = randomise_(Asked()).eval(), tokens_for({})
    _, small = masked_and_cut(model, tokens)
    _, every = model.attention(tokens, tokens, tokens, average_attn_weights=False)
    _, left = small.attention(tokens, tokens, tokens, average_attn_weights=False)
    _, mean = small.attention(tokens, tokens, tokens)
    torch.testing.assert_close(left, every[:, KEPT])
    torch.testing.assert_close(mean, every[:, KEPT].mean(1))


def test_unbatched_tokens_are_attended_as_a_batch_of_one():
    model, tokens = randomise_(Asked()).eval(), tokens_for({})
    _, small = masked_and_cut(model, tokens)
    one, weights = small.attend(tokens[0], need_weights=True)
    torch.testing.assert_close(one, small.attend(tokens)[0][0])
    assert weights.shape == (5, 5)


def test_mask_of_every_head_is_read():
    model, tokens = randomise_(Asked()).eval(), tokens_for({})
    _, small = masked_and_cut(model, tokens)
    masks = torch.randn(2 * 4, 5, 5, generator=torch.Generator().manual_seed(2))
    every = model.attention(tokens, tokens, tokens, attn_mask=masks, average_attn_weights=False)[1]
    left = small.attention(
        tokens,
        tokens,
        tokens,
        attn_mask=masks.view(2, 4, 5, 5)[:, KEPT].flatten(0, 1),
        average_attn_weights=False,
    )[1]
    torch.testing.assert_close(left, every[:, KEPT])


def test_causal_hint_without_its_mask_is_refused_as_torch_does():
    _, small = masked_and_cut(randomise_(Asked()).eval(), tokens := tokens_for({}))
    with pytest.raises(ValueError, match="give attn_mask too"):
        small.attention(tokens, tokens, tokens, is_causal=True)


def test_dropout_of_the_weights_acts_in_training_alone():
    _, small = masked_and_cut(randomise_(Asked()).eval(), tokens := tokens_for({}))
    still = small.attend(tokens)[0]
    assert torch.equal(still, small.attend(tokens)[0])
    for need_weights in (False, True):
        moved = small.train().attend(tokens, need_weights)[0]
        assert (moved - still).abs().max() > 0.01


def test_names_and_sizes_are_torchs():
    model, tokens = randomise_(Asked()).eval(), tokens_for({})
    _, small = masked_and_cut(model, tokens)
    shapes = {name: tuple(p.shape) for name, p in small.attention.named_parameters()}
    assert shapes == {
        "in_proj_weight": (18, 12),
        "in_proj_bias": (18,),
        "out_proj.weight": (12, 6),
        "out_proj.bias": (12,),
    }
    sizes = (small.attention.num_heads, small.attention.head_dim, small.attention.embed_dim)
    assert sizes == (2, 3, 12)
    rows = KEPT.repeat_interleave(3).repeat(3)
    assert torch.equal(small.attention.in_proj_weight, model.attention.in_proj_weight[rows])


def constrained_of(model, tokens, sparsity=0.5):
    return ConstrainedModel(model, tokens, sparsity=sparsity, metric=L2Norm(), rho=1.0)


@pytest.mark.parametrize(("sparsity", "n_left"), [(0.24, 4), (0.25, 3), (0.74, 2), (0.99, 1)])
def test_rate_of_heads_is_floored(sparsity, n_left):
    constrained = constrained_of(randomise_(Asked()), tokens := tokens_for({}), sparsity)
    small, _ = constrained.removal().finish(tokens)
    assert small.attention.num_heads == n_left


def test_heads_are_written_as_units_of_channels_and_read_by_name(tmp_path):
    tokens = tokens_for({})
    asked = LayerSettings(0.0, {"attention": 0.5})
    text = layers_text(Planner(Asked(), tokens).plan(asked), asked)
    # queries, keys and values: 36 rows of 12 weights and a bias, over 5 tokens
    projections, products, output = 5 * 36 * 12, 2 * 5 * 5 * 12, 5 * 12 * 12
    macs = projections + products + output
    expected = f"  attention: 0.5 # 4 units of 3 channels, {36 * 13} params, {macs:,} MACs"
    assert expected in text.splitlines()
    (tmp_path / "layers.yaml").write_text(text)
    assert read_layers(tmp_path / "layers.yaml", 0.9).by_layer["attention"] == 0.5


@pytest.mark.parametrize(("multiple", "n_left"), [(1, 2), (3, 2), (9, 3), (4, 4)])
def test_multiple_counts_the_channels_of_heads(multiple, n_left):
    model, tokens = Asked(), tokens_for({})
    (group,) = [g for g in find_groups(model, tokens).groups if g.name == "attention"]
    assert group.width == 3
    assert group.count_kept(0.5, multiple) == n_left


class Transformer(nn.Module):
    """Encoder and decoder with torch's own layers, and a padding mask read off the input."""

    def __init__(self, norm_first=False):
        super().__init__()
        options = {"dim_feedforward": 16, "batch_first": True, "norm_first": norm_first}
        layers = nn.TransformerEncoderLayer(12, 4, **options)
        self.encoder = nn.TransformerEncoder(layers, 2, enable_nested_tensor=not norm_first)
        self.decoder = nn.TransformerDecoderLayer(12, 4, **options)
        self.head = nn.Linear(12, 5)

    def forward(self, tokens):
        padding = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        padding[1:, 3:] = True
        memory = self.encoder(tokens, src_key_padding_mask=padding)
        return self.head(self.decoder(tokens, memory, memory_key_padding_mask=padding))


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_of_torch_loses_heads_of_all_its_layers_without_loss(norm_first):
    model, tokens = randomise_(Transformer(norm_first)).eval(), tokens_for({})
    constrained = constrained_of(model, tokens)
    assert {group.name for group in constrained.groups if group.n_units == 4} == {
        "encoder.layers.0.self_attn",
        "encoder.layers.1.self_attn",
        "decoder.self_attn",
        "decoder.multihead_attn",
    }
    small, _ = constrained.removal().finish(tokens)
    with torch.inference_mode():  # where torch takes its fused layers
        expected, got = constrained.removal().masked().eval()(tokens), small.eval()(tokens)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    small.train()(tokens).square().mean().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_encoder_whose_second_layer_alone_is_pruned_reads_no_nested_tensors():
    model, tokens = randomise_(Transformer()).eval(), tokens_for({})
    groups = [g for g in find_groups(model, tokens).groups if "layers.1.self" in g.name]
    masked = zero_(copy.deepcopy(model), groups, [KEPT])
    with torch.inference_mode():
        got = cut(masked, groups, [KEPT])(tokens)
        torch.testing.assert_close(got, masked(tokens), rtol=1e-5, atol=1e-5)


class Branched(nn.Module):
    """A residual stream without a norm, which mixes no channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.attention = nn.Linear(12, 8), nn.MultiheadAttention(8, 4, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, tokens):
        tokens = self.stem(tokens)
        return self.head(tokens + self.attention(tokens, tokens, tokens)[0])


def test_width_around_the_heads_is_pruned_where_no_norm_mixes_it():
    constrained = constrained_of(randomise_(Branched()), tokens := tokens_for({}))
    widths = {group.name: (group.producers, group.n_units) for group in constrained.groups}
    assert widths == {
        "stem": (("stem", "attention.out_proj"), 8),
        "attention": (("attention",), 4),
    }
    small, difference = constrained.removal().finish(tokens)
    assert difference < 1e-5
    assert small.attention.in_proj_weight.shape == (12, 4)
    assert type(small.attention) is nn.MultiheadAttention, "2 heads of 2 fill a width of 4"


def test_network_that_was_pruned_is_pruned_again():
    tokens = tokens_for({})
    once, _ = constrained_of(randomise_(Transformer()), tokens).removal().finish(tokens)
    again = constrained_of(once, tokens)
    assert {g.name: g.n_units for g in again.groups if "attn" in g.name} == {
        "encoder.layers.0.self_attn": 2,
        "encoder.layers.1.self_attn": 2,
        "decoder.self_attn": 2,
        "decoder.multihead_attn": 2,
    }
    small, difference = again.removal().finish(tokens)
    assert difference < 1e-5
    assert small.decoder.multihead_attn.num_heads == 1


class Beside(nn.Module):
    """The network, and a hidden layer that can be pruned in any case."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.mlp = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, tokens):
        return self.model(tokens), self.mlp(tokens)


class OwnAttention(nn.MultiheadAttention):
    """May count on its heads."""


class Weighing(Asked):
    """Hands out the attention weights too."""

    def forward(self, tokens):
        outputs, weights = self.attend(tokens, need_weights=True)
        return self.head(outputs), weights


def asked_with(attention):
    model = Asked()
    model.attention = attention
    return model


def spectral():
    model = Asked()
    nn.utils.parametrizations.spectral_norm(model.attention.out_proj)
    return model


@pytest.mark.parametrize(
    ("model", "name", "reason"),
    [
        (asked_with(OwnAttention(12, 4)), "model.1.attention", "may count on its number of heads"),
        (
            asked_with(nn.MultiheadAttention(12, 4, add_bias_kv=True)),
            "model.1.attention",
            "adds keys of its own",
        ),
        (
            asked_with(nn.MultiheadAttention(12, 4, add_zero_attn=True)),
            "model.1.attention",
            "adds keys of its own",
        ),
        (spectral(), "model.0", "ties its heads to its width"),
        (
            asked_with(nn.MultiheadAttention(12, 1)),
            "model.1.attention",
            "all its channels are tied together",
        ),
        (Weighing(), "model.1.attention", "would change the outputs"),
    ],
    ids=["subclass", "bias_kv", "zero_attn", "parametrized", "one_head", "weights_used"],
)
def test_attention_that_cannot_lose_heads_stays_whole_with_the_reason(model, name, reason):
    model = Beside(nn.Sequential(nn.Linear(12, 12), randomise_(model)))
    kept = {group.name: group.reason for group in find_groups(model, tokens_for({})).kept}
    assert reason in kept[name]


def test_macs_of_pruned_attention_are_hand_counted():
    model, tokens = randomise_(Asked()), tokens_for({})
    _, small = masked_and_cut(model, tokens)
    length, width, inner = 5, 12, 2 * 3
    projections = length * width * 3 * inner + length * inner * width
    products = 2 * length * length * inner
    assert count_cost(small, tokens).macs == projections + products + length * width * 5
