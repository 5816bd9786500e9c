import pytest
import torch
from support.oracles import tied_groups, tied_weights
from support.records import measured

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.metrics import L2Norm
from admm_exp.admm.partition import Layer, PartitionConstraint
from admm_exp.admm.partitions.n_of_m import NOfM
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.ramp import count_ramped, loosened, ramped_share
from admm_exp.admm.stopping import is_support_flipping, is_support_stable, stop_reason


def changes(*values):
    return [measured(support_change=value) for value in values]


def kept_counts(share, n_units=12, n_kept=4, n_blocks=1):
    group = ChannelGroup("g", n_units, n_kept, (Member(0, 0),), n_blocks)
    return loosened(ChannelConstraint((group,), L2Norm()), share).groups[0].n_kept


def test_ramp_is_cubic_and_ends_after_its_fraction():
    shares = [ramped_share(iteration, 8, 0.5) for iteration in range(1, 9)]
    assert shares == pytest.approx([1 - 0.75**3, 1 - 0.5**3, 1 - 0.25**3, 1, 1, 1, 1, 1])


def test_no_ramp_is_everything_from_the_start():
    assert ramped_share(1, 12, 0.0) == 1.0
    assert count_ramped(12, 0.0) == 0


@pytest.mark.parametrize("ramp", [0.0, 0.05, 0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("iterations", [1, 3, 10, 12])
def test_ramped_iterations_are_those_with_less_than_everything(iterations, ramp):
    shares = [ramped_share(iteration, iterations, ramp) for iteration in range(1, iterations + 1)]
    assert count_ramped(iterations, ramp) == sum(share < 1.0 for share in shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(("share", "kept"), [(0.0, 12), (0.49, 9), (0.5, 8), (0.99, 5), (1.0, 4)])
def test_a_share_of_the_units_to_be_removed_is_removed(share, kept):
    assert kept_counts(share) == kept


def test_every_block_loses_the_same_number():
    assert kept_counts(0.5, n_units=12, n_kept=4, n_blocks=4) == 8
    assert kept_counts(0.4, n_units=12, n_kept=4, n_blocks=4) == 12


def test_weights_inside_a_layer_are_ramped_in_every_block_too():
    layer = Layer("fc", 8, 4, n_blocks=2)  # 2 of 4
    half = loosened(PartitionConstraint(NOfM(4), (layer,), L2Norm()), 0.5)
    (kept,) = half.select([torch.tensor([[1.0, 2, 3, 4, 8, 7, 6, 5]])])
    assert kept.tolist() == [False, True, True, True, True, True, True, False]


def test_full_share_is_the_constraint_itself():
    constraint = ChannelConstraint(tied_groups(), L2Norm())
    assert loosened(constraint, 1.0) == constraint


def test_smaller_share_keeps_a_larger_support_that_holds_the_smaller():
    constraint, W = ChannelConstraint(tied_groups(), L2Norm()), tied_weights(3)
    all_removed, half = constraint.select(W), loosened(constraint, 0.5).select(W)
    assert all(bool((loose | ~tight).all()) for loose, tight in zip(half, all_removed, strict=True))
    assert sum(int(s.sum()) for s in half) > sum(int(s.sum()) for s in all_removed)


@pytest.mark.parametrize(
    ("past", "is_stable"),
    [
        ((0.3, 0.0, 0.0, 0.0), True),
        ((0.0, 0.0, 0.0, 0.3), False),
        ((0.0, 0.0), False),
        ((0.2, 0.0, 0.001), False),
        ((0.001, 0.0005, 0.0), True),
        ((), False),
    ],
)
def test_support_is_stable_after_three_iterations_without_a_change(past, is_stable):
    assert is_support_stable(changes(*past), 3) is is_stable


@pytest.mark.parametrize(
    ("stopping", "primal", "change", "reason"),
    [
        ("budget", 0.1, 0.0, None),
        ("residuals", 0.1, 0.5, "residuals"),
        ("residuals", 0.6, 0.0, None),
        ("support", 0.6, 0.0, "support"),
        ("support", 0.1, 0.5, None),
    ],
)
def test_each_rule_stops_for_its_own_reason(stopping, primal, change, reason):
    last = measured(primal_residual=primal, dual_residual=0.1, support_change=change)
    assert stop_reason([last], stopping, 1) == reason


@pytest.mark.parametrize("stopping", ["budget", "residuals", "support"])
def test_no_rule_stops_before_the_first_iteration(stopping):
    assert stop_reason([], stopping, 1) is None


@pytest.mark.parametrize(
    ("change", "energy", "n", "is_flipping"),
    [
        (0.3, 0.3, 3, True),
        (0.3, 0.3, 2, False),
        (0.2, 0.3, 3, False),
        (0.3, 0.05, 3, False),
    ],
)
def test_support_flips_when_much_is_exchanged_again_and_again(change, energy, n, is_flipping):
    past = [measured()] + [measured(support_change=change, dead_energy=energy)] * n
    assert is_support_flipping(past) is is_flipping
    assert not is_support_flipping([*past, measured()])
