from itertools import pairwise

import pytest
from support.records import measured

from admm_exp.admm.rho_policy import Balancing, Constant, Geometric, Ramp, SupportDriven

BALANCING = {"ratio": 10.0, "factor": 2.0, "lowest": 0.25, "highest": 4.0, "freeze_after": 20}
SUPPORT = {"fast": 1.3, "middle": 1.2, "slow": 1.1}
POLICIES = [
    Constant(),
    Geometric(1.3),
    Ramp(20.0),
    Balancing(**BALANCING),
    SupportDriven(**SUPPORT),
]


def run(policy, start, iterations, **numbers):
    """Follow a policy while every iteration measures the same."""
    past = []
    for _ in range(iterations):
        past.append(measured(rho=policy(start, past, iterations), **numbers))
    return [r.rho for r in past]


def balanced(primal, dual, rho=1.0, start=1.0, **settings):
    last = measured(rho=rho, relative_primal_residual=primal, relative_dual_residual=dual)
    return Balancing(**(BALANCING | settings))(start, [last], 30)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_first_iteration_has_the_start_value(policy):
    assert policy(0.37, [], 12) == 0.37


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_policy_is_a_function_of_what_it_is_given(policy):
    past = [measured(rho=0.1), measured(rho=0.3, support_change=0.2)]
    assert policy(0.1, past, 12) == policy(0.1, list(past), 12)


def test_constant_rho_stays_exactly():
    assert set(run(Constant(), 1e-3, 50)) == {1e-3}


def test_geometric_rho_grows_by_its_factor_in_every_iteration():
    rhos = run(Geometric(1.3), 1e-3, 5)
    assert [b / a for a, b in pairwise(rhos)] == pytest.approx([1.3] * 4)


@pytest.mark.parametrize("iterations", [2, 5, 40])
def test_ramp_ends_at_its_growth_however_many_iterations_there_are(iterations):
    rhos = run(Ramp(100.0), 0.01, iterations)
    assert rhos[-1] == pytest.approx(1.0)
    assert [b / a for a, b in pairwise(rhos)] == pytest.approx([rhos[1] / rhos[0]] * len(rhos[1:]))


def test_ramp_of_one_iteration_is_its_start():
    assert run(Ramp(100.0), 0.01, 1) == [0.01]


def test_ramp_never_rises_by_more_than_its_steepest_factor():
    assert run(Ramp(100.0, 5.0), 0.01, 2) == pytest.approx([0.01, 0.05])
    assert run(Ramp(100.0, 5.0), 0.01, 5) == pytest.approx(run(Ramp(100.0), 0.01, 5))
    with pytest.raises(ValueError, match=r"^steepest must be at least 1, got 0.5"):
        Ramp(20.0, 0.5)


@pytest.mark.parametrize(
    ("primal", "dual", "rho"),
    [
        (1.1, 0.1, 2.0),  # primal more than ten times the dual
        (0.9, 0.1, 1.0),
        (0.1, 0.9, 1.0),
        (0.1, 1.1, 0.5),
        (0.0, 0.0, 1.0),
        (0.5, 0.0, 2.0),
    ],
)
def test_balancing_moves_rho_against_the_larger_residual(primal, dual, rho):
    assert balanced(primal, dual) == rho


def test_balancing_goes_on_from_the_rho_that_was_used():
    assert balanced(1.0, 0.01, rho=1.5) == 3.0


@pytest.mark.parametrize(("primal", "bound"), [(9.0, 4.0), (1e-4, 0.25)])
def test_balancing_stays_within_its_bounds(primal, bound):
    numbers = {"relative_primal_residual": primal, "relative_dual_residual": 0.1}
    assert run(Balancing(**BALANCING), 1.0, 9, **numbers)[-1] == bound


def test_balancing_is_frozen_after_its_iterations():
    policy = Balancing(**(BALANCING | {"highest": 1e9, "freeze_after": 3}))
    rhos = run(policy, 1.0, 7, relative_primal_residual=9.0, relative_dual_residual=0.1)
    assert rhos == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(
    ("change", "factor"), [(0.11, 1.3), (0.1, 1.2), (0.006, 1.2), (0.005, 1.1), (0.0, 1.1)]
)
def test_support_driven_rho_rises_the_faster_the_more_changed(change, factor):
    past = [measured(rho=1.0, support_change=0.9), measured(rho=2.0, support_change=change)]
    assert SupportDriven(**SUPPORT)(1.0, past, 12) == pytest.approx(2.0 * factor)


@pytest.mark.parametrize(
    ("policy", "settings", "message"),
    [
        (Geometric, {"factor": 0.99}, "factor must be at least 1, got 0.99"),
        (Geometric, {"factor": float("nan")}, "factor must be at least 1, got nan"),
        (Ramp, {"growth": 0.5}, "growth must be at least 1, got 0.5"),
        (Balancing, BALANCING | {"ratio": 0.5}, "ratio must be at least 1, got 0.5"),
        (Balancing, BALANCING | {"lowest": 0.0}, r"lowest must be in \(0, 1\], got 0.0"),
        (Balancing, BALANCING | {"highest": 0.9}, "highest must be at least 1, got 0.9"),
        (Balancing, BALANCING | {"freeze_after": -1}, "freeze_after must be at least 0, got -1"),
        (SupportDriven, SUPPORT | {"slow": 0.9}, "slow must be at least 1, got 0.9"),
    ],
)
def test_argument_out_of_range_is_refused(policy, settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        policy(**settings)


@pytest.mark.parametrize(("primal", "bound"), [(9.0, 4.0), (1e-4, 0.25)])
def test_the_bounds_of_balancing_are_relative_to_the_start(primal, bound):
    numbers = {"relative_primal_residual": primal, "relative_dual_residual": 0.1}
    assert run(Balancing(**BALANCING), 6.0, 9, **numbers)[-1] == 6.0 * bound
