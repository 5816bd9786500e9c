import copy
import pickle

import pytest
import torch
from torch import nn

from admm_exp.pruning.dependency.norms import count_channels_, counted_channels

KEPT = torch.tensor([0, 2, 3, 5, 6, 7, 9, 11, 12, 14])


def pair(make, key):
    """A norm over 16 channels, and one over 10 of them that counts 16."""
    torch.manual_seed(0)
    dense, small = make(16), make(10)
    with torch.no_grad():
        for whole, part in zip(dense.parameters(), small.parameters(), strict=True):
            part.copy_(whole.uniform_(0.5, 1.5)[KEPT])
    count_channels_(small, {key: 16})
    return dense, small


def with_zeros(kept, dim):
    shape = list(kept.shape)
    shape[dim] = 16
    return torch.zeros(shape).index_copy(dim, KEPT, kept)


@pytest.mark.parametrize(
    ("make", "key"), [(nn.LayerNorm, "layer_norm -1"), (nn.RMSNorm, "rms_norm -1")]
)
def test_norm_computes_what_it_did_while_the_zeros_were_there(make, key):
    dense, small = pair(make, key)
    inputs = 3.0 + torch.randn(4, 5, 10)
    expected = dense(with_zeros(inputs, -1))[..., KEPT]
    torch.testing.assert_close(small(inputs), expected, rtol=1e-5, atol=1e-5)


def test_group_norm_counts_the_zeros_of_every_group():
    kept = torch.tensor([0, 1, 3, 4, 6, 7, 9, 10, 11, 12, 14, 15]).view(4, 3).flatten()
    kept = torch.tensor([0, 1, 3, 4, 6, 7, 8, 9, 11, 12, 14, 15])
    dense, small = nn.GroupNorm(4, 16, affine=False), nn.GroupNorm(4, 12, affine=False)
    count_channels_(small, {"group_norm -3": 16})
    inputs = torch.zeros(2, 16, 3, 3).index_copy(1, kept, torch.randn(2, 12, 3, 3))
    torch.testing.assert_close(small(inputs[:, kept]), dense(inputs)[:, kept])


class Moments(nn.Module):
    def forward(self, x):
        return [
            x.mean(1),
            x.mean((1, 2), keepdim=True),
            torch.var(x, dim=1, keepdim=True),
            x.std(1, correction=0),
            *torch.var_mean(x, 1, unbiased=False),
            *torch.std_mean(x, dim=[1, -1]),
            x.mean(),
            x.sum(1),
        ]


def test_moments_of_any_form_count_the_zeros():
    module = Moments()
    count_channels_(module, {f"{f} -3": 16 for f in ("mean", "var", "std", "var_mean", "std_mean")})
    inputs = torch.randn(2, 10, 4, 3)
    expected = Moments()(with_zeros(inputs, 1))
    torch.testing.assert_close(module(inputs), expected, rtol=1e-5, atol=1e-6)


def test_moments_over_other_dimensions_stay_what_they_are():
    module = Moments()
    count_channels_(module, {"mean -1": 16})
    inputs = torch.randn(2, 10, 4, 3)
    assert torch.equal(module(inputs)[0], Moments()(inputs)[0])


def test_half_precision_is_summed_in_single():
    dense, small = pair(nn.LayerNorm, "layer_norm -1")
    inputs = (100.0 + torch.randn(4, 10)).to(torch.bfloat16)
    got = small.to(torch.bfloat16)(inputs)
    assert got.dtype == torch.bfloat16
    expected = dense(with_zeros(inputs.float(), -1))[..., KEPT]
    torch.testing.assert_close(got.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_count_as_well(again):
    _, small = pair(nn.LayerNorm, "layer_norm -1")
    inputs = torch.randn(3, 10)
    copied = again(small)
    assert torch.equal(copied(inputs), small(inputs))
    assert counted_channels(copied) == {"": {"layer_norm -1": 16}}
    assert isinstance(copied, nn.LayerNorm)


def test_counting_norm_says_what_it_counts():
    _, small = pair(nn.LayerNorm, "layer_norm -1")
    assert "counts layer_norm -1: 16 channels" in repr(small)


@pytest.mark.skipif(torch.__version__ < (2, 14), reason="torch 2.13 breaks graphs at contexts")
def test_a_compiled_norm_counts_without_a_break_in_its_graph():
    _, small = pair(nn.LayerNorm, "layer_norm -1")
    inputs = torch.randn(3, 10)
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs), small(inputs))
