import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from admm_exp.training.learning_rate import admm_lrs, decayed, listed, training_lrs


def of_torch(make, epochs, base=0.1):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], base)
    scheduler, lrs = make(optimizer), []
    for _ in range(epochs):
        lrs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return lrs


def lrs_of(decay, length, warmup=0, base=0.1):
    return [decayed(decay, base, place, length, warmup) for place in range(length)]


def all_of(lrs, steps_per_epoch):
    """List the learning rates of all steps of a phase."""
    return [lr for epoch in range(lrs.epochs) for lr in lrs.of_epoch(epoch, steps_per_epoch)]


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
    lrs = lrs_of(decay, 24, warmup=4)
    assert lrs[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert lrs[4:] == pytest.approx(lrs_of(decay, 20))


@settings(deadline=None)
@given(
    st.sampled_from(["constant", "cosine", "step"]),
    st.integers(1, 300),
    st.integers(0, 400),
    st.floats(1e-6, 10),
)
def test_learning_rate_is_above_0_and_never_above_its_base(decay, length, warmup, base):
    lrs = lrs_of(decay, length, warmup, base)
    assert all(0 < lr <= base for lr in lrs)


@settings(deadline=None)
@given(st.sampled_from(["constant", "cosine", "step"]), st.integers(2, 300))
def test_decay_never_rises(decay, length):
    lrs = lrs_of(decay, length)
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
    lrs = admm_lrs("thirds", 0.5, 4, admm_epoch, warmup=0.0, per="epoch")
    assert all_of(lrs, 1) == pytest.approx([0.5 * factor for factor in factors * 4])


def test_thirds_per_step_fall_inside_every_iteration():
    lrs = admm_lrs("thirds", 0.5, 2, 1, warmup=0.0, per="step")
    assert all_of(lrs, 6) == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005] * 2)


def test_cosine_of_admm_goes_over_the_whole_phase():
    expected = of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=12), 12)
    lrs = admm_lrs("cosine", 0.1, 4, 3, warmup=0.0, per="epoch")
    assert [lrs.at(epoch, 0, 7) for epoch in range(12)] == pytest.approx(expected)


def test_cosine_per_step_is_that_of_torch_stepped_after_every_step():
    expected = of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=28), 28)
    lrs = admm_lrs("cosine", 0.1, 2, 2, warmup=0.0, per="step")
    assert all_of(lrs, 7) == pytest.approx(expected)


@pytest.mark.parametrize("epochs", [1, 2, 8])
def test_cosine_per_step_ends_at_zero_however_short_the_phase(epochs):
    last = all_of(training_lrs("cosine", 0.1, epochs, warmup=0.1, per="step"), 100)[-1]
    assert 0.0 < last < 1e-3 * 0.1


def test_warmup_is_a_fraction_of_the_phase():
    lrs = all_of(training_lrs("constant", 0.1, 2, warmup=0.25, per="step"), 8)
    assert lrs == pytest.approx([0.02, 0.04, 0.06, 0.08, *[0.1] * 12])
    of_admm = admm_lrs("thirds", 0.1, 1, 4, warmup=0.5, per="epoch")
    assert all_of(of_admm, 1) == pytest.approx([0.1 / 3, 0.2 / 3, 0.01, 0.001])


@pytest.mark.parametrize(("per", "steps"), [("step", 7), ("epoch", 1)])
@pytest.mark.parametrize("finetune_epochs", [0, 3, 9])
def test_joint_is_one_cosine_that_finetuning_goes_on_with(per, steps, finetune_epochs):
    of_admm = admm_lrs("joint", 0.1, 2, 3, warmup=0.2, per=per, finetune_epochs=finetune_epochs)
    rest = training_lrs("cosine", 0.1, finetune_epochs, warmup=0.2, per=per, before=6)
    whole = training_lrs("cosine", 0.1, 6 + finetune_epochs, warmup=0.2, per=per)
    assert all_of(of_admm, steps) + all_of(rest, steps) == all_of(whole, steps)


def test_all_steps_of_an_epoch_share_a_learning_rate_if_asked_to():
    lrs = training_lrs("cosine", 0.1, 4, warmup=0.0, per="epoch")
    assert lrs.of_epoch(1, 3) == [lrs.at(1, 0, None)] * 3
    assert lrs.at(1, 0, 3) == pytest.approx(0.1 * 0.5 * (1 + 0.5**0.5))


def test_a_step_beyond_the_last_has_the_last_learning_rate():
    lrs = training_lrs("cosine", 0.1, 1, warmup=0.0, per="step")
    assert lrs.at(0, 9, 5) == lrs.at(0, 4, 5)


def test_where_nobody_knows_the_steps_the_middle_of_the_epoch_stands_for_it():
    lrs = training_lrs("cosine", 0.1, 2, warmup=0.0, per="step")
    assert lrs.at(0, 3, None) == pytest.approx(lrs.at(0, 50, 100))


@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize("warmup", [0.0, 0.3])
def test_total_and_highest_are_those_of_all_steps(per, warmup):
    lrs = admm_lrs("cosine", 0.1, 3, 2, warmup=warmup, per=per)
    assert lrs.total(10) == pytest.approx(sum(all_of(lrs, 10)))
    of_second = [*lrs.of_epoch(2, 64), *lrs.of_epoch(3, 64)]
    assert lrs.highest(2, 4) == pytest.approx(max(of_second))


def test_listed_learning_rates_are_one_an_epoch():
    lrs = listed([0.3, 0.1])
    assert (lrs.epochs, lrs.base) == (2, 0.3)
    assert [lrs.of_epoch(epoch, 2) for epoch in (0, 1)] == [[0.3, 0.3], [0.1, 0.1]]


def test_unknown_decay_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="decay must be constant, cosine or step, got 'linear'"):
        training_lrs("linear", 0.1, 5, warmup=0.0, per="step")
    with pytest.raises(ValueError, match="must be constant, cosine, joint or thirds, got 'step'"):
        admm_lrs("step", 0.1, 2, 5, warmup=0.0, per="step")
    with pytest.raises(ValueError, match="lr_per must be step or epoch, got 'batch'"):
        training_lrs("cosine", 0.1, 5, warmup=0.0, per="batch")
    with pytest.raises(ValueError, match=r"warmup must be in \[0, 1\), got 1.0"):
        training_lrs("cosine", 0.1, 5, warmup=1.0, per="step")
