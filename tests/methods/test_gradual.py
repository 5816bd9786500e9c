import itertools

import pytest
import torch
from support.method_toy import constrained_of, run_method
from support.toy import train_fn

from admm_exp.admm.metrics import FPGM, L2Norm
from admm_exp.methods.gradual import Gradual, ZeroLast


def zeros_by_epoch(constrained, ramp=1.0):
    """Train; return per epoch the units at exactly zero after each of its steps."""
    seen = []

    def spy(model, optimizer, epoch):
        seen.append([])
        handle = optimizer.register_step_post_hook(
            lambda *_: seen[-1].append(
                frozenset(
                    (model[0].weight.abs().sum(1) + model[0].bias.abs() == 0)
                    .nonzero()[:, 0]
                    .tolist()
                )
            )
        )
        train_fn(model, optimizer, epoch)
        handle.remove()

    run_method(Gradual(ramp), constrained, train_fn=spy)
    return seen


def test_units_at_zero_rise_by_the_cubic_schedule_and_stay():
    # 3 of 5 go; shares 1 - (1 - e/6)^3 are .42, .70, .875, .96, .995, 1, so floors of 3 x share:
    seen = zeros_by_epoch(constrained_of())
    assert [len(epoch[-1]) for epoch in seen] == [1, 2, 2, 2, 2, 3]
    assert all(set(epoch) == {epoch[0]} for epoch in seen)
    assert all(a[-1] <= b[-1] for a, b in itertools.pairwise(seen))


def test_a_ramp_over_half_of_the_epochs_leaves_the_rest_at_full_sparsity():
    # shares at epochs 1, 2, 3 of 3 are .70, .96, 1, so floors of 3 x share:
    seen = zeros_by_epoch(constrained_of(), ramp=0.5)
    assert [len(epoch[-1]) for epoch in seen] == [2, 2, 3, 3, 3, 3]


def test_no_unit_comes_back_whatever_the_metric_says_of_zeros():
    def smallest(theta, group):
        return -theta.square().sum(dim=1)

    seen = [epoch[-1] for epoch in zeros_by_epoch(constrained_of(smallest))]
    assert len(seen[-1]) == 3
    assert all(before <= after for before, after in itertools.pairwise(seen))


@pytest.mark.parametrize("metric", [L2Norm(), FPGM()])
def test_support_at_the_end_is_what_is_not_zero(metric):
    constrained = constrained_of(metric)
    (*_, last) = zeros_by_epoch(constrained)
    removed = (~constrained.state.support[0]).nonzero()[:, 0].tolist()
    assert last[-1] == set(removed)
    assert len(removed) == 3


def test_a_unit_at_zero_is_never_ranked_before_another():
    theta = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.1, 1.0], [1.0, 1.1]])
    plain, wrapped = FPGM()(theta, None), ZeroLast(FPGM())(theta, None)
    assert plain.argmax() == 0  # the farthest from all others
    assert wrapped.tolist() == [-torch.inf, *plain[1:].tolist()]
