import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import tied_groups, tied_weights
from torch.utils._python_dispatch import TorchDispatchMode

from admm_exp.admm.bn_scale import BNScale
from admm_exp.admm.groups import ChannelGroup, Member, unit_matrix, unit_parts
from admm_exp.admm.metrics import (
    FPGM,
    GradientMetric,
    L1Norm,
    L2Norm,
    Random,
    compares_units,
    needs_scales,
)
from admm_exp.admm.taylor import Taylor

GROUP = ChannelGroup("conv", 5, 2, (Member(0, 0),))


def theta_of(seed, n_units=5, p=7):
    return torch.randn(n_units, p, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.0, 100.0))
def test_fpgm_is_the_sum_of_distances_of_a_naive_loop(seed, shift):
    theta = theta_of(seed) + shift
    rows = theta.double()
    naive = torch.stack([sum((a - b).norm() for b in rows) for a in rows])
    assert torch.allclose(FPGM()(theta, GROUP).double(), naive, rtol=1e-4)


@pytest.mark.parametrize("n_units", [4, 7, 8, 11])
def test_fpgm_counts_every_pair_once_whatever_the_blocks(monkeypatch, n_units):
    monkeypatch.setattr("admm_exp.admm.metrics.BLOCK", 4)
    monkeypatch.setattr("admm_exp.admm.metrics.SMALL_BLOCK", 2)
    theta = theta_of(n_units, n_units) + 10.0
    expected = torch.cdist(theta.double(), theta.double()).sum(dim=1)
    torch.testing.assert_close(FPGM()(theta, GROUP).double(), expected, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("piece", [2**19, 0])
def test_fpgm_scores_a_group_in_parts_as_a_whole(monkeypatch, piece):
    monkeypatch.setattr("admm_exp.admm.metrics.PIECE", piece)
    group, weights = tied_groups()[0], tied_weights()
    scores = FPGM().of_parts(unit_parts(weights, group))
    torch.testing.assert_close(scores, FPGM()(unit_matrix(weights, group), group))


@pytest.mark.parametrize("block", [256, 4])
def test_fpgm_multiplies_units_by_signs_without_writing_them(monkeypatch, block):
    monkeypatch.setattr("admm_exp.admm.metrics.BLOCK", block)
    theta, signs = theta_of(2, 11) + 1.0, 2.0 * (torch.arange(11) % 3 > 0) - 1.0
    scores = FPGM().of_parts([theta[:, :2], theta[:, 2:]], signs)
    torch.testing.assert_close(scores, FPGM()(theta * signs.unsqueeze(1), GROUP))


class Largest(TorchDispatchMode):
    """Notes how many scalars the largest new tensor holds."""

    n_scalars = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.n_scalars = max(self.n_scalars, made.numel())
        return made


def test_fpgm_needs_no_memory_larger_than_a_part():
    parts = [torch.randn(512, 1024) for _ in range(3)]
    with Largest() as largest:
        FPGM().of_parts(parts)
    assert 0 < largest.n_scalars <= parts[0].numel()


def test_fpgm_gives_equal_units_a_distance_of_zero_and_no_nan():
    scores = FPGM()(torch.full((5, 3), 1e3), GROUP)
    assert scores.tolist() == [0.0] * 5


def test_fpgm_sees_the_members_of_a_unit_as_one_vector():
    group, weights = tied_groups()[0], tied_weights()
    rows = unit_matrix(weights, group).double()
    expected = torch.cdist(rows, rows).sum(dim=1)
    apart = sum(
        torch.cdist(part, part).sum(dim=1) for part in [rows[:, :3], rows[:, 3:5], rows[:, 5:]]
    )
    scores = FPGM()(rows.float(), group).double()
    assert torch.allclose(scores, expected, rtol=1e-5)
    assert not torch.allclose(scores, apart, rtol=1e-2)


@pytest.mark.parametrize(("metric", "power"), [(L1Norm(), 1), (L2Norm(), 2)])
def test_norms_are_those_of_a_naive_loop(metric, power):
    theta = theta_of(3)
    naive = [sum(abs(float(x)) ** power for x in row) for row in theta]
    assert metric(theta, GROUP).tolist() == pytest.approx(naive, rel=1e-6)


@pytest.mark.parametrize("metric", [L1Norm(), L2Norm(), FPGM()])
def test_scores_do_not_change_theta(metric):
    theta = theta_of(0)
    before = theta.clone()
    metric(theta, GROUP)
    assert torch.equal(theta, before)


def test_random_is_the_same_in_every_call_whatever_theta_holds():
    metric = Random(seed=4)
    first = metric(theta_of(0), GROUP)
    torch.rand(3)  # the global generator has no say
    assert torch.equal(metric(torch.full((5, 7), float("nan")), GROUP), first)


def test_random_never_reads_theta():
    on_meta = torch.empty(5, 7, device="meta")  # holds no numbers to read
    assert Random(seed=4)(on_meta, GROUP).shape == (5,)


def test_random_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    Random(seed=4)(theta_of(0), GROUP)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_differs_between_seeds_and_groups():
    groups = [ChannelGroup("conv", 5, 2, (Member(0, 0),), position=p) for p in range(3)]
    drawn = {
        tuple(Random(seed)(theta_of(0), group).tolist()) for seed in range(3) for group in groups
    }
    assert len(drawn) == 9


def test_a_plain_function_is_a_metric_that_asks_for_nothing():
    def metric(theta, group):
        return theta[:, 0]

    assert not needs_scales(metric)
    assert not compares_units(metric)
    assert not isinstance(metric, GradientMetric)


def test_metrics_say_what_they_ask_for():
    assert needs_scales(BNScale())
    assert compares_units(FPGM())
    assert isinstance(Taylor(batches=2), GradientMetric)
