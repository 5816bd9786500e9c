import math
from itertools import pairwise

import pytest
import torch
from support.records import measured

from admm_exp.admm.rho import RHO_S_ONE_PERCENT, Momentum, largest_stable_rho
from admm_exp.admm.rho_course import Pull, RhoCourse, step_sizes
from admm_exp.admm.rho_policy import Balancing, Constant, Geometric, Ramp, SupportDriven

POLICIES = {
    "constant": Constant(),
    "geometric": Geometric(1.3),
    "ramp": Ramp(20.0),
    "balancing": Balancing(2.0, 2.0, 0.1, 10.0, 20),
    "support": SupportDriven(1.3, 1.2, 1.1),
}
LENGTHS = [1, 2, 3, 8, 50]


def cosine(iterations, steps, peak=0.02, warmup=0.1):
    """Learning rates per step of a phase that warms up and ends at zero."""
    n = iterations * steps
    rise = round(warmup * n)
    lrs = [
        peak * (t + 1) / (rise + 1)
        if t < rise
        else peak * 0.5 * (1 + math.cos(math.pi * (t - rise) / (n - rise)))
        for t in range(n)
    ]
    return [lrs[i * steps : (i + 1) * steps] for i in range(iterations)]


def course_of(policy, lrs, momentum=0.9, is_proximal=False, limits=None):
    pull = Pull(step_sizes(lrs, momentum), is_proximal)
    return RhoCourse(policy, pull, limits or [math.inf] * len(lrs), RHO_S_ONE_PERCENT)


def walk(course, measure):
    """Choose rho iteration by iteration; `measure` makes up the residuals from the iteration."""
    start, past = course.start(RHO_S_ONE_PERCENT), []
    for iteration in range(course.iterations):
        rho = course.next(start, past)
        past.append(measured(rho=rho, **measure(iteration)))
    return past


def calm(iteration):
    return {}


def restless(iteration):
    """A support that moves now and then, residuals far apart one way and then the other."""
    primal, dual = (1.0, 0.01) if iteration % 3 else (0.01, 1.0)
    change = 0.3 if iteration % 2 else 0.0
    return {
        "relative_primal_residual": primal,
        "relative_dual_residual": dual,
        "support_change": change,
    }


@pytest.mark.parametrize("measure", [calm, restless])
@pytest.mark.parametrize("is_proximal", [False, True])
@pytest.mark.parametrize("iterations", LENGTHS)
@pytest.mark.parametrize("policy", POLICIES)
def test_pulls_of_the_whole_phase_sum_to_9_2(policy, iterations, is_proximal, measure):
    course = course_of(POLICIES[policy], cosine(iterations, 40), is_proximal=is_proximal)
    past = walk(course, measure)
    assert course.pulled(past) == pytest.approx(9.2, rel=1e-9)
    assert all(residuals.rho > 0 for residuals in past)


def left_of(lrs, rhos, step, pull=None):
    """Run W-steps on one coordinate to be cut that the task does not hold; U is rescaled with rho.

    With a pull, U takes what `dual_step=reached` does.

    Returns:
        What is left of it, beside its size of 1 at the start.
    """
    w, u, velocity = 1.0, 0.0, 0.0
    for iteration, (rates, rho) in enumerate(zip(lrs, rhos, strict=True)):
        if iteration:
            u *= rhos[iteration - 1] / rho
        for lr in rates:
            w, velocity = step(w, u, velocity, lr, rho)
        u += w if pull is None else -math.expm1(-pull.of(iteration, rho)) * w
    return abs(w)


def plain(w, u, velocity, lr, rho):
    return w - lr * rho * (w + u), 0.0


def heavy_ball(w, u, velocity, lr, rho):
    velocity = 0.9 * velocity + rho * (w + u)
    return w - lr * velocity, velocity


def nesterov(w, u, velocity, lr, rho):
    gradient = rho * (w + u)
    velocity = 0.9 * velocity + gradient
    return w - lr * (gradient + 0.9 * velocity), velocity


def proximal(w, u, velocity, lr, rho):
    size = 10.0 * lr  # lr / (1 - 0.9), as the proximal form takes it
    return (w - size * rho * u) / (1.0 + size * rho), 0.0


FORMS = {
    "plain": (plain, 0.0, False),
    "heavy_ball": (heavy_ball, 0.9, False),
    "nesterov": (nesterov, 0.9, False),
    "proximal": (proximal, 0.9, True),
}


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 5, 8, 12, 20, 50])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_coordinate_that_the_task_does_not_hold_loses_99_percent(policy, form, iterations):
    step, momentum, is_proximal = FORMS[form]
    lrs = cosine(iterations, max(100, 400 // iterations))  # momentum takes steps to build up
    course = course_of(POLICIES[policy], lrs, momentum, is_proximal)
    rhos = [residuals.rho for residuals in walk(course, calm)]
    assert left_of(lrs, rhos, step) <= 0.0125
    assert left_of(lrs, rhos, step, course.pull) <= 0.0125


def test_a_reached_dual_pulls_less_past_zero():
    lrs = cosine(8, 100)
    course = course_of(Ramp(20.0), lrs)
    rhos = [residuals.rho for residuals in walk(course, calm)]
    after = 3  # iterations, when what was left of the first ones has been overshot
    full, reached = (
        left_of(lrs[:after], rhos[:after], heavy_ball, pull) for pull in (None, course.pull)
    )
    assert reached < 0.5 * full


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("iterations", [1, 2, 5, 20, 50])
def test_what_is_left_is_that_of_the_closed_form(policy, iterations):
    lrs = cosine(iterations, 400, peak=0.001)
    course = course_of(POLICIES[policy], lrs, 0.0)
    rhos = [residuals.rho for residuals in walk(course, calm)]
    w, y = 1.0, 0.0  # y = rho * U, which a change of rho leaves alone
    for iteration, rho in enumerate(rhos):
        w = (w + y / rho) * math.exp(-course.pull.of(iteration, rho)) - y / rho
        y += rho * w
    assert left_of(lrs, rhos, plain) == pytest.approx(abs(w), abs=1e-4)


def test_ten_times_less_rho_leaves_much():
    lrs = cosine(1, 400)
    rhos = [r.rho / 10 for r in walk(course_of(Constant(), lrs), calm)]
    assert left_of(lrs, rhos, heavy_ball) > 0.2


def test_planned_policies_keep_their_course():
    course = course_of(Ramp(20.0), cosine(8, 30))
    rhos = [residuals.rho for residuals in walk(course, calm)]
    assert rhos[-1] / rhos[0] == pytest.approx(20.0)
    assert [b / a for a, b in pairwise(rhos)] == pytest.approx([20 ** (1 / 7)] * 7)


def test_a_policy_that_answers_is_heard_within_what_the_rest_can_make_up_for():
    course = course_of(POLICIES["support"], [[0.01] * 30] * 10)
    quiet = [residuals.rho for residuals in walk(course, calm)]
    moving = [r.rho for r in walk(course, lambda i: {"support_change": 0.3 * (i < 3)})]
    assert moving[3] > 1.5 * quiet[3]  # 1.3^3 against 1.1^3
    assert moving[-1] < quiet[-1]


def test_limits_are_made_up_for_by_the_start_value():
    lrs = cosine(4, 3, peak=0.1)
    limits = [0.5 * largest_stable_rho(max(rates), Momentum(0.9, True)) for rates in lrs]
    course = course_of(Ramp(20.0), lrs, limits=limits)
    past = walk(course, calm)
    assert course.pulled(past) == pytest.approx(9.2, rel=1e-9)
    start = past[0].rho
    assert all(r.rho <= max(start, limit) for r, limit in zip(past, limits, strict=True))


def test_without_a_total_the_policy_alone_decides():
    course = RhoCourse(Geometric(2.0), Pull(step_sizes([[0.1]] * 3, 0.0)), [math.inf] * 3)
    assert [course.next(0.5, [measured()] * i) for i in range(3)] == [0.5, 1.0, 2.0]


def test_step_sizes_count_what_momentum_adds():
    sizes = step_sizes([[0.1, 0.2], [0.3]], 0.9)
    assert torch.cat(sizes).tolist() == pytest.approx([1.0, 2.0, 3.0])
