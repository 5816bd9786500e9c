import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from admm_exp.training.learning_rate import admm_lrs, epoch_lr


def of_torch(make, epochs, base=0.1):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], base)
    scheduler, lrs = make(optimizer), []
    for _ in range(epochs):
        lrs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return lrs


def lrs_of(decay, epochs, warmup_epochs=0, base=0.1):
    return [epoch_lr(decay, base, epoch, epochs, warmup_epochs) for epoch in range(epochs)]


def test_cosine_is_that_of_torch():
    expected = of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=30), 30)
    assert lrs_of("cosine", 30) == pytest.approx(expected)


def test_step_is_that_of_torch_with_milestones_at_half_and_three_quarters():
    expected = of_torch(lambda o: lr_scheduler.MultiStepLR(o, [20, 30], gamma=0.1), 40)
    assert lrs_of("step", 40) == pytest.approx(expected)


def test_constant_is_constant():
    assert lrs_of("constant", 5) == [0.1] * 5


@pytest.mark.parametrize("decay", ["constant", "cosine", "step"])
def test_warmup_rises_in_equal_steps_and_then_the_decay_starts_at_its_top(decay):
    lrs = lrs_of(decay, 24, warmup_epochs=4)
    assert lrs[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert lrs[4:] == pytest.approx(lrs_of(decay, 20))


@settings(deadline=None)
@given(
    st.sampled_from(["constant", "cosine", "step"]),
    st.integers(1, 300),
    st.integers(0, 400),
    st.floats(1e-6, 10),
)
def test_learning_rate_is_above_0_and_never_above_its_base(decay, epochs, warmup_epochs, base):
    lrs = lrs_of(decay, epochs, warmup_epochs, base)
    assert all(0 < lr <= base for lr in lrs)


@settings(deadline=None)
@given(st.sampled_from(["constant", "cosine", "step"]), st.integers(2, 300))
def test_decay_never_rises(decay, epochs):
    lrs = lrs_of(decay, epochs)
    assert lrs == sorted(lrs, reverse=True)


@pytest.mark.parametrize(
    ("admm_epoch", "factors"),
    [
        (1, [1.0]),
        (2, [1.0, 0.1]),
        (3, [1.0, 0.1, 0.01]),
        (6, [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
        (7, [1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
        (15, [1.0] * 5 + [0.1] * 5 + [0.01] * 5),
    ],
)
def test_thirds_fall_inside_every_iteration_and_start_over(admm_epoch, factors):
    lrs = admm_lrs("thirds", 0.5, 4, admm_epoch)
    assert lrs == pytest.approx([0.5 * factor for factor in factors * 4])


def test_cosine_of_admm_goes_over_the_whole_phase():
    expected = of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=12), 12)
    assert admm_lrs("cosine", 0.1, 4, 3) == pytest.approx(expected)


def test_every_epoch_of_every_iteration_has_a_learning_rate():
    assert admm_lrs("constant", 0.01, 12, 15) == [0.01] * 180


def test_unknown_decay_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="decay must be constant, cosine or step, got 'linear'"):
        epoch_lr("linear", 0.1, 0, 5)
    with pytest.raises(ValueError, match="must be constant, cosine or thirds, got 'step'"):
        admm_lrs("step", 0.1, 2, 5)
