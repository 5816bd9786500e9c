import math

import pytest
from support.records import measured

from admm_exp.admm.rho import Momentum
from admm_exp.admm.rho_policy import Constant, Geometric, Ramp, SupportDriven
from admm_exp.admm.settings import AdmmSettings
from admm_exp.errors import ConfigError
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.training.learning_rate import admm_lrs, listed

RISING = SupportDriven(100.0, 100.0, 100.0)


def course_of(lrs=(0.2,) * 8, iterations=4, policy=None, is_auto=False, **settings):
    settings = AdmmSettings(iterations, len(lrs) // iterations, max(lrs), **settings)
    return AdmmCourse(settings, policy or Constant(), listed(lrs), is_auto)


def test_learning_rates_are_shared_out_among_the_iterations():
    course = course_of((0.4, 0.3, 0.2, 0.1), 2)
    assert course.settings.admm_epoch == 2
    assert [tuple(course.epochs_of(i)) for i in (0, 1)] == [(0, 1), (2, 3)]
    assert [course.highest_lr_of(i) for i in (0, 1)] == [0.4, 0.2]


PLAIN = Momentum()


@pytest.mark.parametrize("policy", [Constant(), RISING])
def test_start_value_that_passes_stability_is_refused(policy):
    # 2 (1 + 0) / 0.2 = 10
    with pytest.raises(ConfigError, match=r"below 10 at learning rate 0\.2, got 10"):
        course_of(policy=policy).check_rho(10.0, PLAIN)
    course_of(policy=policy).check_rho(9.9, PLAIN)


@pytest.mark.parametrize(
    ("momentum", "settings"), [(PLAIN, {"w_step": "proximal"}), (None, {"w_step": "gradient"})]
)
def test_no_bound_is_asked_where_none_is_known(momentum, settings):
    course = course_of(policy=Geometric(10.0), **settings)
    course.check_rho(1e6, momentum)
    assert course.next_rho(1e6, [measured()], momentum, None) == 1e7


@pytest.mark.parametrize("policy", [RISING, Geometric(100.0)])
def test_policy_gets_at_most_half_of_the_stable_rho_and_says_so(policy):
    course = course_of((0.2, 0.2, 0.1, 0.1), 2, policy)
    assert course.next_rho(1.0, [measured(rho=1.0)], PLAIN, None) == 0.5 * 2 / 0.1
    assert "held at 10: much more" in course.cap_notice(1.0, [measured(rho=1.0)], PLAIN)
    assert course.next_rho(1e-4, [measured(rho=1e-4)], PLAIN, None) == pytest.approx(1e-2)
    assert course.cap_notice(1e-4, [measured(rho=1e-4)], PLAIN) is None


def test_start_value_above_half_of_the_bound_is_kept():
    course = course_of((0.2, 0.2, 0.1, 0.1), 2, Constant())  # bound 10, then 20
    assert course.next_rho(9.0, [measured(rho=9.0)], PLAIN, None) == 9.0
    assert course.cap_notice(9.0, [measured(rho=9.0)], PLAIN) is None
    steep = course_of((0.2, 0.2, 0.2, 0.2), 2, Geometric(100.0))
    assert steep.next_rho(9.0, [measured(rho=9.0)], PLAIN, None) == 9.0


def test_a_start_value_that_a_policy_keeps_is_not_called_held():
    assert course_of().cap_notice(9.0, [measured(rho=9.0)], PLAIN) is None  # half the bound is 5


def test_the_first_iteration_takes_what_the_policy_asks_for_and_says_nothing():
    course = course_of(policy=lambda start, past, n_iterations: 100.0)  # half the bound is 5
    assert course.next_rho(1.0, [], PLAIN, None) == 100.0
    assert course.cap_notice(1.0, [], PLAIN) is None


def test_support_freezes_only_where_asked_and_after_the_ramp():
    still = [measured()] * 2
    settings = {"stable_iterations": 2}
    assert not course_of(**settings).is_frozen(still)
    assert course_of(**settings, freeze_support=True).is_frozen(still)
    ramped = course_of(**settings, freeze_support=True, sparsity_ramp=0.5)  # 1 iteration of 4
    assert not ramped.is_frozen(still)
    assert ramped.is_frozen([measured()] * 3)


def test_no_rule_stops_during_the_ramp():
    course = course_of(sparsity_ramp=1.0, stopping="residuals")
    good = measured(primal_residual=0.1, dual_residual=0.1)
    assert course.stop_reason([good] * 3) is None
    assert course.stop_reason([good] * 4) == "residuals"


@pytest.mark.parametrize(
    ("iterations", "share", "masked"),
    [
        (1, 0.25, 0),
        (2, 0.25, 0),
        (3, 0.25, 1),
        (4, 0.25, 1),
        (8, 0.25, 2),
        (8, 0.0, 0),
        (3, 1.0, 2),
    ],
)
def test_a_share_of_the_iterations_at_the_end_is_masked_but_never_all(iterations, share, masked):
    course = course_of((0.1,) * iterations, iterations, masked_share=share)
    answers = [course.is_masked(i) for i in range(iterations)]
    assert answers == [False] * (iterations - masked) + [True] * masked


def test_a_support_is_complete_before_it_is_masked_and_stays():
    course = course_of(sparsity_ramp=1.0, masked_share=0.5)  # 2 of 4 iterations
    assert course.share_of(1) == course.share_of(3) == 1.0 > course.share_of(0)
    assert [course.is_frozen([measured()] * n) for n in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("ramp", "share", "holds"),
    [(1.0, 0.5, True), (0.5, 0.25, True), (1.0, 0.0, False), (0.0, 0.5, False)],
)
def test_what_was_removed_is_held_where_the_sparsity_rises_and_the_end_is_masked(
    ramp, share, holds
):
    course = course_of((0.1,) * 4, 4, sparsity_ramp=ramp, masked_share=share)
    pulled = [i for i in range(4) if not course.is_masked(i)]
    assert [course.holds_settled(i) for i in range(4)] == [holds and i in pulled for i in range(4)]


def test_pull_of_the_phase_is_known_where_the_optimizer_does_not_rescale_it():
    past = [measured(rho=2.0), measured(rho=4.0)]
    course = course_of((0.1, 0.1, 0.01, 0.01), 2)
    assert course.pull_so_far(past, 5, Momentum(0.5)) == pytest.approx(2 * (10 * 0.2 + 20 * 0.02))
    assert course.pull_so_far(past, None, PLAIN) is None
    rescaled = course_of((0.1,) * 2, 2, w_step="gradient")
    assert rescaled.pull_so_far(past, 5, None) is None
    proximal = course_of((0.1,) * 2, 2, w_step="proximal")
    assert proximal.pull_so_far(past, 5, None) == pytest.approx(5 * math.log(1.2 * 1.4))


@pytest.mark.parametrize("iterations", [1, 2, 8, 50])
@pytest.mark.parametrize("w_step", ["gradient", "folded", "reduced", "proximal"])
def test_auto_rho_sums_to_9_2_over_the_whole_phase(iterations, w_step):
    lrs = admm_lrs("cosine", 0.1, iterations, 1, warmup=0.1, per="step")
    settings = AdmmSettings(iterations, lrs.epochs // iterations, lrs.base, w_step=w_step)
    course = AdmmCourse(settings, Ramp(20.0), lrs, is_auto=True)
    momentum, steps, past = Momentum(0.9, True), 40, []
    start = course.auto_rho(steps, momentum)
    for _ in range(iterations):
        past.append(measured(rho=course.next_rho(start, past, momentum, steps)))
    assert course.pull_so_far(past, steps, momentum) == pytest.approx(9.2)
    every = [(e, lr) for e in range(iterations) for lr in lrs.of_epoch(e, steps)]
    if w_step != "proximal":
        assert sum(past[e].rho * lr for e, lr in every) / (1 - 0.9) == pytest.approx(9.2)


def test_a_reached_dual_takes_what_the_pull_of_the_iteration_could_remove():
    course = course_of((0.1, 0.1, 0.01, 0.01), 2, dual_step="reached")
    # an iteration of 2 epochs of 5 steps, lengthened twofold by momentum
    pulls = [10 * 0.1 * 0.3 / 0.5, 10 * 0.01 * 3.0 / 0.5]
    parts = [course.dual_step(i, rho, 5, Momentum(0.5)) for i, rho in enumerate((0.3, 3.0))]
    assert parts == pytest.approx([1 - math.exp(-pull) for pull in pulls])
    adam = course.dual_step(0, 0.3, 5, None)  # pulled after its steps: each divides by 1 + lr rho
    assert adam == pytest.approx(1 - 1.03**-10)


@pytest.mark.parametrize(
    ("steps", "momentum", "settings"),
    [
        (5, PLAIN, {"dual_step": "full"}),
        (None, PLAIN, {"dual_step": "reached"}),
        (5, None, {"dual_step": "reached", "w_step": "gradient"}),
    ],
    ids=["asked for", "steps unknown", "pull rescaled"],
)
def test_the_whole_of_what_is_left_is_taken_otherwise(steps, momentum, settings):
    assert course_of(**settings).dual_step(0, 0.3, steps, momentum) == 1.0
