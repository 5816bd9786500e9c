import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import (
    minus,
    nearest_support,
    norm,
    supports_of,
    tied_groups,
    tied_weights,
    zeroed,
)

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.metrics import FPGM, L1Norm, L2Norm, Metric, Random
from admm_exp.admm.projection import ChannelConstraint, best_of, keep_best

seeds = st.integers(0, 2**31)
many = settings(deadline=None, max_examples=25)


def projected(constraint, weights):
    masks = constraint.masks(weights, constraint.select(weights))
    return [weight * mask for weight, mask in zip(weights, masks, strict=True)]


@many
@given(seeds)
def test_l2_selection_is_the_nearest_of_all_supports(seed):
    weights, groups = tied_weights(seed), tied_groups()
    best = zeroed(weights, groups, nearest_support(weights, groups))
    found = projected(ChannelConstraint(groups, L2Norm()), weights)
    assert norm(minus(weights, found)) == pytest.approx(norm(minus(weights, best)), rel=1e-6)


@many
@given(seeds, st.sampled_from([(6, 1, 1), (6, 4, 1), (6, 4, 2), (6, 3, 3), (4, 4, 2)]))
def test_l2_selection_is_the_nearest_for_any_count_and_blocks(seed, counts):
    n_units, n_kept, n_blocks = counts
    weights = [torch.randn(n_units, 3, generator=torch.Generator().manual_seed(seed))]
    groups = (ChannelGroup("conv", n_units, n_kept, (Member(0, 0),), n_blocks),)
    distances = [
        norm(minus(weights, zeroed(weights, groups, (s,)))) for s in supports_of(groups[0])
    ]
    found = projected(ChannelConstraint(groups, L2Norm()), weights)
    assert norm(minus(weights, found)) == pytest.approx(min(distances), rel=1e-6, abs=1e-9)


@many
@given(seeds, st.sampled_from([L1Norm(), L2Norm(), FPGM(), Random(0)]))
def test_no_metric_gets_nearer_than_l2_norm(seed, metric: Metric):
    weights, groups = tied_weights(seed), tied_groups()
    constraint, exact = (ChannelConstraint(groups, m) for m in (metric, L2Norm()))
    by_metric = norm(minus(weights, zeroed(weights, groups, constraint.select(weights))))
    nearest = norm(minus(weights, zeroed(weights, groups, exact.select(weights))))
    assert nearest <= by_metric + 1e-6


def test_score_is_joint_over_the_members_not_a_sum_of_norms():
    # Unit 0 has norms 3 and 3, sum 6, square 18; unit 1 has 5 and 0, sum 5, square 25.
    weights = [torch.tensor([[3.0], [5.0]]), torch.tensor([[3.0], [0.0]])]
    group = ChannelGroup("conv", 2, 1, (Member(0, 0), Member(1, 0)))
    assert ChannelConstraint((group,), L2Norm()).select(weights)[0].tolist() == [False, True]


def test_bias_alone_can_decide_which_unit_stays():
    weights = [torch.tensor([[1.0], [1.1]]), torch.tensor([9.0, 0.0])]
    group = ChannelGroup("conv", 2, 1, (Member(0, 0), Member(1, 0)))
    assert ChannelConstraint((group,), L2Norm()).select(weights)[0].tolist() == [True, False]


@many
@given(seeds)
def test_every_block_keeps_the_same_count(seed):
    scores = torch.rand(12, generator=torch.Generator().manual_seed(seed))
    scores[:4] += 10  # the first block alone would win
    kept = keep_best(scores, n_kept=6, n_blocks=3)
    assert kept.view(3, 4).sum(dim=1).tolist() == [2, 2, 2]


@pytest.mark.parametrize("n_units", [3, 50, 400])
def test_ties_keep_the_lower_index(n_units):
    kept = keep_best(torch.zeros(n_units), n_kept=n_units // 3)
    assert kept.tolist() == [i < n_units // 3 for i in range(n_units)]


def test_tie_at_the_edge_keeps_the_better_and_the_lower():
    scores = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0])
    assert keep_best(scores, n_kept=3).tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("metric", [L2Norm(), L1Norm(), FPGM()])
def test_nan_in_a_weight_is_an_error(metric):
    weights = tied_weights()
    weights[1][0, 2] = float("nan")
    with pytest.raises(ValueError, match="score of a unit is not a number: the weights hold NaN"):
        ChannelConstraint(tied_groups(), metric).select(weights)


@many
@given(seeds, st.sampled_from([(12, 6, 3), (12, 12, 1), (12, 1, 1), (12, 4, 4)]))
def test_the_best_are_those_of_a_stable_sort(seed, counts):
    n_units, n_kept, n_blocks = counts
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (n_units,), generator=generator).float()  # many ties
    size = n_units // n_blocks
    best = []
    for start in range(0, n_units, size):
        order = sorted(range(start, start + size), key=lambda i: (-float(scores[i]), i))
        best += order[: n_kept // n_blocks]
    assert keep_best(scores, n_kept, n_blocks).nonzero().flatten().tolist() == sorted(best)


def test_lists_side_by_side_keep_what_each_keeps_alone():
    tied = torch.tensor([1.0, 2.0, 2.0, 2.0])
    scores = [tied, torch.tensor([4.0, 3.0, 2.0, 1.0]), tied.flip(0), tied[:3], tied.double()]
    kept, blocks = [2, 2, 2, 1, 2], [1, 1, 2, 1, 1]
    found = best_of(scores, kept, blocks)
    alone = map(keep_best, scores, kept, blocks)
    assert all(map(torch.equal, found, alone))


@many
@given(seeds)
def test_signed_selection_is_that_of_weights_times_signs(seed):
    weights, constraint = tied_weights(seed), ChannelConstraint(tied_groups(), FPGM())
    signs = [torch.tensor([1.0, -1.0, -1.0, 1.0]), torch.tensor([-1.0, 1.0, 1.0])]
    before = [weight.clone() for weight in weights]
    found = constraint.select_signed(weights, signs)
    spread = zip(weights, constraint.spread(weights, signs), strict=True)
    assert found is not None
    assert all(map(torch.equal, found, constraint.select([w * sign for w, sign in spread])))
    assert all(map(torch.equal, weights, before))


def test_a_metric_that_reads_no_parts_asks_for_the_signed_weights():
    constraint = ChannelConstraint(tied_groups(), Random(0))
    assert constraint.select_signed(tied_weights(), [torch.ones(4), torch.ones(3)]) is None
