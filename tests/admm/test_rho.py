import pytest
import torch

from admm_exp.admm.rho import Momentum, auto_rho, largest_stable_rho
from admm_exp.admm.update import pull_


def remaining(rho, iterations, steps, lr, momentum, nesterov=False):
    """Simulate W-steps of SGD on one unit to be cut, without task gradient.

    It swings around zero: returns its size at the end and the largest of the last iteration.
    """
    w, u, velocity, sizes = 1.0, 0.0, 0.0, []
    for _ in range(iterations):
        for _ in range(steps):
            gradient = rho * (w + u)
            velocity = momentum * velocity + gradient
            w -= lr * (gradient + momentum * velocity if nesterov else velocity)
            sizes.append(abs(w))
        u += w
    return sizes[-1], max(sizes[-steps:])


@pytest.mark.parametrize(
    ("iterations", "steps", "lr", "momentum"),
    [(12, 200, 0.01, 0.9), (5, 100, 0.01, 0.9), (10, 50, 0.01, 0.0), (3, 300, 0.02, 0.5)],
)
def test_auto_rho_leaves_about_one_percent_of_a_unit_to_be_cut(iterations, steps, lr, momentum):
    rho = auto_rho(iterations * steps * lr, momentum)
    assert remaining(rho, iterations, steps, lr, momentum)[0] <= 0.012
    assert remaining(rho / 10, iterations, steps, lr, momentum)[1] > 0.2


def test_auto_rho_is_9_2_over_s():
    lrs = [0.1, 0.1, 0.01]
    effective_steps = sum(lr / (1 - 0.9) for lr in lrs)
    assert auto_rho(sum(lrs), 0.9) * effective_steps == pytest.approx(9.2)


@pytest.mark.parametrize("sum_lr", [0.0, -1.0, float("nan")])
def test_auto_rho_refuses_learning_rates_that_sum_to_nothing(sum_lr):
    with pytest.raises(ValueError, match=f"must sum to more than 0: {sum_lr}$"):
        auto_rho(sum_lr, 0.9)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_auto_rho_refuses_momentum_outside_0_and_1(momentum):
    with pytest.raises(ValueError, match=rf"^momentum must be in \[0, 1\), got {momentum}$"):
        auto_rho(1.0, momentum)


@pytest.mark.parametrize(("iterations", "steps", "lr"), [(12, 40, 1e-3), (5, 100, 0.01)])
def test_auto_rho_leaves_about_one_percent_in_the_proximal_form_too(iterations, steps, lr):
    rho, w, u = auto_rho(iterations * steps * lr, 0.0), torch.ones(1), torch.zeros(1)
    for _ in range(iterations):
        for _ in range(steps):
            pull_([w], [-u], rho, lr)  # whatever Adam does, there is no task gradient
        u += w
    assert abs(float(w)) <= 0.012
    assert float(w) != 0.0


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_steps_converge_just_below_the_largest_stable_rho_and_not_above(momentum, nesterov):
    lr = 0.05
    bound = largest_stable_rho(lr, Momentum(momentum, nesterov))
    below, _ = remaining(0.99 * bound, 1, 600, lr, momentum, nesterov)
    above, _ = remaining(1.01 * bound, 1, 600, lr, momentum, nesterov)
    assert abs(below) < 1e-2 < 1e2 < abs(above)
