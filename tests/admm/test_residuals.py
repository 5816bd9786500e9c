from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import minus, norm, tied_groups, tied_weights, zeroed

from admm_exp.admm.metrics import FPGM, L1Norm, L2Norm, Random
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.state import initial_state, split
from admm_exp.admm.update import update

GROUPS = tied_groups()
CONSTRAINT = ChannelConstraint(GROUPS, L2Norm())
N = 4 * 3 + 2 * 4 + 8 * 2 + 7 + 3 * 2 * 2
seeds = st.integers(0, 2**31 - 3)
many = settings(deadline=None, max_examples=20)


def two_updates(seed, metric=None, relaxation=1.0, rho=0.3):
    """Update twice; return W, (Z, U) before and after the second update, and its outcome."""
    constraint = ChannelConstraint(GROUPS, metric or L2Norm())
    start = initial_state(tied_weights(seed), constraint, rho)
    old, _ = update(tied_weights(seed + 1), start, constraint)
    W = tied_weights(seed + 2)
    new, residuals = update(W, old, constraint, relaxation)
    return W, split(old, constraint), split(new, constraint), (old, new, residuals)


@many
@given(seeds, st.sampled_from([1.0, 1.6]))
def test_residuals_are_those_of_boyd_with_z_and_u_written_out(seed, relaxation):
    W, (Z_old, _), (Z, U), (_, _, residuals) = two_updates(seed, relaxation=relaxation)
    assert residuals.primal_residual == pytest.approx(norm(minus(W, Z)), rel=1e-5)
    assert residuals.dual_residual == pytest.approx(0.3 * norm(minus(Z, Z_old)), rel=1e-5)
    scale = max(norm(W), norm(Z))
    eps_dual = N**0.5 * 1e-4 + 1e-2 * norm([0.3 * u for u in U])
    assert residuals.eps_primal == pytest.approx(N**0.5 * 1e-4 + 1e-2 * scale, rel=1e-5)
    assert residuals.eps_dual == pytest.approx(eps_dual, rel=1e-5)


@many
@given(seeds)
def test_relative_residuals_divide_by_the_scales_of_the_tolerances(seed):
    W, (Z_old, _), (Z, U), (_, _, residuals) = two_updates(seed)
    primal = norm(minus(W, Z)) / max(norm(W), norm(Z))
    dual = norm(minus(Z, Z_old)) / norm(U)  # rho cancels
    assert residuals.relative_primal_residual == pytest.approx(primal, rel=1e-5)
    assert residuals.relative_dual_residual == pytest.approx(dual, rel=1e-5)
    assert residuals.dual_ratio == pytest.approx(norm(U) / norm(W), rel=1e-5)


@many
@given(seeds)
def test_dead_energy_is_what_a_cut_would_remove_of_w(seed):
    W, _, _, (_, new, residuals) = two_updates(seed)
    dead = minus(W, zeroed(W, GROUPS, new.support))
    assert residuals.dead_energy == pytest.approx(norm(dead) ** 2 / norm(W) ** 2, rel=1e-5)


@many
@given(seeds)
def test_support_change_is_one_minus_jaccard(seed):
    _, _, _, (old, new, residuals) = two_updates(seed)
    pairs = [(state, g, u) for state in (0, 1) for g in (0, 1) for u in range(4 - g)]
    kept = [{(g, u) for s, g, u in pairs if s == i and [old, new][i].support[g][u]} for i in (0, 1)]
    jaccard = len(kept[0] & kept[1]) / len(kept[0] | kept[1])
    assert residuals.support_change == pytest.approx(1 - jaccard)


def test_dual_residual_is_zero_where_w_moves_and_z_does_not():
    W = zeroed(tied_weights(0), GROUPS, CONSTRAINT.select(tied_weights(0)))
    state = initial_state(W, CONSTRAINT, 0.3)
    moved = [w + 0.01 * (w == 0) for w in W]  # only in the removed units
    new, residuals = update(moved, state, CONSTRAINT)
    assert norm(minus(moved, W)) > 0.01
    assert residuals.dual_residual == 0.0
    assert residuals.primal_residual == pytest.approx(norm(minus(moved, W)), rel=1e-5)
    assert all(map(torch.equal, new.support, state.support))


def test_support_change_is_0_when_nothing_moves_and_1_when_all_does():
    W = [torch.zeros_like(w) for w in tied_weights()]
    W[0][[0, 2]] = 1.0
    W[4][0] = 1.0
    state = initial_state(W, CONSTRAINT, 0.3)
    assert update(W, state, CONSTRAINT)[1].support_change == 0.0
    W[0][[1, 3]], W[4][1] = 9.0, 9.0
    assert update(W, state, CONSTRAINT)[1].support_change == 1.0


@many
@given(seeds)
def test_l2_norm_has_no_projection_gap(seed):
    assert two_updates(seed)[3][2].projection_gap == 0.0


@many
@given(seeds, st.sampled_from([L1Norm(), FPGM(), Random(1)]))
def test_projection_gap_is_the_energy_that_a_heuristic_gives_up(seed, metric):
    W, (_, U_old), (Z, _), (_, _, residuals) = two_updates(seed, metric)
    X = [w + u for w, u in zip(W, U_old, strict=True)]
    nearest = zeroed(X, GROUPS, CONSTRAINT.select(X))
    given_up = norm(minus(X, Z)) ** 2 - norm(minus(X, nearest)) ** 2
    assert residuals.projection_gap >= 0.0
    assert residuals.projection_gap == pytest.approx(given_up / norm(X) ** 2, abs=1e-6)


def test_random_metric_shows_a_projection_gap():
    assert max(two_updates(seed, Random(1))[3][2].projection_gap for seed in range(5)) > 0.1


def test_all_zero_weights_have_finite_residuals():
    W = [torch.zeros_like(w) for w in tied_weights()]
    _, residuals = update(W, initial_state(W, CONSTRAINT, 0.3), CONSTRAINT)
    assert residuals.is_converged
    assert residuals.relative_primal_residual == residuals.relative_dual_residual == 0.0
    assert residuals.dead_energy == residuals.dual_ratio == residuals.projection_gap == 0.0


@pytest.mark.parametrize(
    ("primal", "dual", "is_converged"),
    [(0.9, 0.9, True), (1.0, 1.0, True), (1.1, 0.9, False), (0.9, 1.1, False)],
)
def test_converged_means_both_residuals_within_their_tolerances(primal, dual, is_converged):
    residuals = replace(
        two_updates(0)[3][2],
        primal_residual=primal * 0.5,
        eps_primal=0.5,
        dual_residual=dual * 3.0,
        eps_dual=3.0,
    )
    assert residuals.is_converged is is_converged


@many
@given(seeds)
def test_groups_measure_the_same_on_their_own_rows(seed):
    W, (Z_old, _), (Z, _), (old, new, residuals) = two_updates(seed)
    for position, found in enumerate(residuals.groups):
        mine = [torch.zeros_like(kept) for kept in new.support]
        mine[position] = torch.ones_like(mine[position])
        theirs = [zeroed(tensors, GROUPS, mine) for tensors in (W, Z, Z_old)]
        w, z, z_old = theirs
        dead = minus(w, zeroed(w, GROUPS, new.support))
        assert found.name == GROUPS[position].name
        assert found.energy == pytest.approx(norm(w) ** 2 / norm(W) ** 2, rel=1e-4)
        assert found.primal_residual == pytest.approx(norm(minus(w, z)), rel=1e-4)
        assert found.dual_residual == pytest.approx(0.3 * norm(minus(z, z_old)), rel=1e-4, abs=1e-6)
        assert found.dead_energy == pytest.approx(norm(dead) ** 2 / norm(w) ** 2, rel=1e-4)
        kept, before = new.support[position], old.support[position]
        jaccard = int((kept & before).sum()) / int((kept | before).sum())
        assert found.support_change == pytest.approx(1 - jaccard)


@many
@given(seeds)
def test_squares_of_the_groups_add_up_to_those_of_all(seed):
    residuals = two_updates(seed)[3][2]
    for name in ("primal_residual", "dual_residual"):
        total = sum(getattr(group, name) ** 2 for group in residuals.groups)
        assert total == pytest.approx(getattr(residuals, name) ** 2, rel=1e-4)
    assert sum(group.energy for group in residuals.groups) == pytest.approx(1.0)


def test_residuals_print_as_a_table_of_a_few_lines():
    *_, (_, _, residuals) = two_updates(0)
    head, primal, dual, rest = str(residuals).splitlines()
    assert head.split() == ["rho", "0.3", "residual", "tolerance", "relative", "not", "converged"]
    assert [float(word) for word in primal.split()[1:]] == pytest.approx(
        [residuals.primal_residual, residuals.eps_primal, residuals.relative_primal_residual],
        rel=0.05,
    )
    assert dual.split()[0] == "dual"
    assert f"energy to be cut {residuals.dead_energy:.2%}" in rest
    assert max(map(len, (head, primal, dual, rest))) <= 80
