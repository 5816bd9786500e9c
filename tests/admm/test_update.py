import pytest
import torch
from support.examples import run_examples
from support.oracles import admm_iteration, norm, tied_groups, tied_weights, zeroed
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.metrics import FPGM, L1Norm, L2Norm, Random
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.state import State, following, initial_state, split, to_tensors, with_rho
from admm_exp.admm.update import add_penalty_gradient_, pull_, update, update_

GROUPS = tied_groups()
CONSTRAINT = ChannelConstraint(GROUPS, L2Norm())


def is_close(left, right, atol=1e-5):
    pairs = zip(left, right, strict=True)
    return all(torch.allclose(a.double(), b.double(), rtol=0, atol=atol) for a, b in pairs)


@pytest.mark.parametrize("relaxation", [1.0, 1.6, 0.5])
def test_five_iterations_equal_those_with_z_and_u_apart(relaxation):
    W = tied_weights(0)
    state = initial_state(W, CONSTRAINT, 0.5)
    Z, U = (list(tensors) for tensors in split(state, CONSTRAINT))
    for seed in range(1, 6):
        # A W-step that pulls towards Z - U and lets another point of view in.
        drift = tied_weights(seed)
        T = [(z - u).float() for z, u in zip(Z, U, strict=True)]
        W = [0.5 * (w + t) + 0.3 * d for w, t, d in zip(W, T, drift, strict=True)]
        Z, U = admm_iteration(W, Z, U, GROUPS, relaxation)
        state, _ = update(W, state, CONSTRAINT, relaxation)
        assert is_close(split(state, CONSTRAINT)[0], Z)
        assert is_close(split(state, CONSTRAINT)[1], U)
    assert state.iteration == 5


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
@pytest.mark.parametrize("dual_step", [0.0, 0.3, 1.0])
def test_a_shorter_dual_step_takes_its_part_of_what_is_left(relaxation, dual_step):
    state = initial_state(tied_weights(0), CONSTRAINT, 0.5)
    for seed in range(1, 6):
        Z, U = split(state, CONSTRAINT)
        W = tied_weights(seed)
        Z_new, U_full = admm_iteration(W, Z, U, GROUPS, relaxation)
        state, residuals = update(W, state, CONSTRAINT, relaxation, dual_step=dual_step)
        part = [  # on the kept units U is 0, whatever it was
            torch.where(full == 0, 0.0, u + dual_step * (full - u))
            for u, full in zip(U, U_full, strict=True)
        ]
        assert is_close(split(state, CONSTRAINT)[0], Z_new)
        assert is_close(split(state, CONSTRAINT)[1], part)
        assert residuals.projection_gap == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("dual_step", [-0.1, 1.1, float("nan")])
def test_a_dual_step_out_of_range_is_refused(dual_step):
    state = initial_state(tied_weights(0), CONSTRAINT, 0.5)
    with pytest.raises(ValueError, match=r"dual_step must be in \[0, 1\], got"):
        update(tied_weights(1), state, CONSTRAINT, dual_step=dual_step)


def test_support_moves_in_the_run_that_the_reference_follows():
    state, supports = initial_state(tied_weights(0), CONSTRAINT, 0.5), set()
    for seed in range(5):
        state, _ = update(tied_weights(seed), state, CONSTRAINT)
        supports.add(tuple(torch.cat(state.support).tolist()))
    assert len(supports) > 1


def test_kept_units_are_copied_unchanged():
    W, start = tied_weights(2), initial_state(tied_weights(0), CONSTRAINT, 0.5)
    state, _ = update(W, start, CONSTRAINT)  # U was 0, so X = W
    Z, U = split(state, CONSTRAINT)
    removed = [~kept for kept in state.support]
    assert all(map(torch.equal, Z, zeroed(W, GROUPS, state.support)))
    assert all(map(torch.equal, U, zeroed(W, GROUPS, removed)))


@pytest.mark.parametrize("rho", [1.0, 2.0, 5.0])
def test_exact_w_steps_on_a_quadratic_converge_to_the_hard_thresholded_point(rho):
    B = tied_weights(0)  # f(W) = 1/2 ||W - B||^2, minimised on S by the projection of B
    state = initial_state(B, CONSTRAINT, rho)
    for _ in range(150):
        W = [(b + rho * t) / (1 + rho) for b, t in zip(B, state.targets, strict=True)]
        state, residuals = update(W, state, CONSTRAINT)
    Z, U = split(state, CONSTRAINT)
    assert is_close(Z, zeroed(B, GROUPS, CONSTRAINT.select(B)))
    assert is_close(W, Z)
    assert is_close([rho * u for u in U], [b - z for b, z in zip(B, Z, strict=True)])
    assert residuals.primal_residual < 1e-5
    assert residuals.dual_residual < 1e-5
    assert residuals.is_converged


def test_two_scalars_follow_the_trajectory_worked_out_by_hand():
    # f = 1/2 ((w1 - 3)^2 + (w2 - 1)^2), rho = 1, Z = (0, 0), one of two stays: after k iterations
    # W = (3 - 3/2^k, 1/2^k), Z = (W1, 0) and U = (0, 1 - 1/2^k), all exact in binary.
    constraint = ChannelConstraint((ChannelGroup("fc", 2, 1, (Member(0, 0),)),), L2Norm())
    B = torch.tensor([3.0, 1.0])
    state = State((torch.zeros(2),), (torch.tensor([True, False]),), rho=1.0)
    for k in range(1, 8):
        W = (B + state.targets[0]) / 2
        state, residuals = update([W], state, constraint)
        (Z,), (U,) = split(state, constraint)
        assert W.tolist() == [3 - 3 / 2**k, 1 / 2**k]
        assert Z.tolist() == [3 - 3 / 2**k, 0.0]
        assert U.tolist() == [0.0, 1 - 1 / 2**k]
        assert residuals.primal_residual == 1 / 2**k
        assert residuals.dual_residual == 3 / 2**k


def test_rho_change_between_iterations_keeps_the_fixed_point():
    B, rho = tied_weights(0), 1.0
    state = initial_state(B, CONSTRAINT, rho)
    for iteration in range(200):
        W = [(b + rho * t) / (1 + rho) for b, t in zip(B, state.targets, strict=True)]
        state, residuals = update(W, state, CONSTRAINT)
        if iteration == 150:  # converged: a dual that is rescaled rightly stays so
            assert residuals.primal_residual < 1e-5
            rho = 3.0
            state = with_rho(state, CONSTRAINT, rho)
        if iteration > 150:
            assert residuals.primal_residual < 1e-4


@pytest.mark.parametrize("metric", [L2Norm(), L1Norm(), FPGM(), Random(0)])
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_changing_w_in_place_afterwards_changes_nothing(metric, relaxation):
    constraint, W = ChannelConstraint(GROUPS, metric), tied_weights(1)
    start = initial_state(W, constraint, 0.5)
    end, _ = update(W, start, constraint, relaxation)
    before = [{k: v.clone() for k, v in to_tensors(state).items()} for state in (start, end)]
    for w in W:
        w.fill_(9.0)
    for state, old in zip((start, end), before, strict=True):
        assert all(torch.equal(tensor, old[name]) for name, tensor in to_tensors(state).items())


def test_update_leaves_w_and_the_old_state_as_they_were():
    W = tied_weights(1)
    start = initial_state(tied_weights(0), CONSTRAINT, 0.5)
    before = [t.clone() for t in (*W, *start.targets, *start.support)]
    update(W, start, CONSTRAINT, 1.6)
    assert all(map(torch.equal, (*W, *start.targets, *start.support), before))


def test_state_on_leaf_parameters_carries_no_graph():
    W = [nn.Parameter(w) for w in tied_weights(1)]
    start = initial_state(W, CONSTRAINT, 0.5)
    end, _ = update(W, start, CONSTRAINT, 1.6)
    end = with_rho(end, CONSTRAINT, 2.0)
    for tensor in (*start.targets, *end.targets, *end.support):
        assert not tensor.requires_grad
        assert tensor.grad_fn is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_state_is_float32_whatever_the_weights_are(dtype):
    W = [w.to(dtype) for w in tied_weights(1)]
    state, _ = update(W, initial_state(W, CONSTRAINT, 0.5), CONSTRAINT)
    assert {t.dtype for t in state.targets} == {torch.float32}


@pytest.mark.parametrize("relaxation", [0.0, 2.0, -1.0, float("nan")])
def test_relaxation_outside_0_and_2_is_refused(relaxation):
    state = initial_state(tied_weights(), CONSTRAINT, 0.5)
    with pytest.raises(ValueError, match=r"^relaxation must be in \(0, 2\), got "):
        update(tied_weights(), state, CONSTRAINT, relaxation)


def test_nan_in_w_is_an_error():
    W = tied_weights()
    state = initial_state(W, CONSTRAINT, 0.5)
    W[4][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="the weights hold NaN"):
        update(W, state, CONSTRAINT)


def test_penalty_gradient_is_that_of_autograd():
    W = [w.double().requires_grad_() for w in tied_weights(1)]
    T = [t.double() for t in tied_weights(2)]
    penalty = 0.7 / 2 * sum((w - t).square().sum() for w, t in zip(W, T, strict=True))
    task = tied_weights(3)
    expected = [g + t for g, t in zip(torch.autograd.grad(penalty, W), task, strict=True)]
    gradients = [t.double() for t in task]
    add_penalty_gradient_(gradients, W, T, 0.7)
    assert is_close(gradients, expected, atol=1e-12)
    assert norm(gradients) > norm(task)


def test_penalty_gradient_at_w_equal_to_z_is_zero_to_rounding_and_not_nan():
    W = tied_weights(1)
    gradients = [torch.zeros_like(w) for w in W]
    add_penalty_gradient_(gradients, W, [w.clone() for w in W], 1e3)
    # rho * W is rounded once, to half of the last of 24 bits
    bounds = [1e3 * w.abs() * 2.0**-24 for w in W]
    assert all(bool((g.abs() <= b).all()) for g, b in zip(gradients, bounds, strict=True))


def test_large_penalty_gradients_are_the_same_piece_by_piece(monkeypatch):
    shapes = [(40, 9), (3,), (2, 500), (7, 30), (1,), (100, 3, 2)]
    G, W, T = ([torch.randn(shape) for shape in shapes] for _ in range(3))
    expected = [g + 0.7 * (w - t) for g, w, t in zip(G, W, T, strict=True)]
    monkeypatch.setattr("admm_exp.admm.pieces.PIECE", 64)
    add_penalty_gradient_(G, W, T, 0.7)
    assert is_close(G, expected, atol=1e-6)


@pytest.mark.parametrize("metric", [L2Norm(), L1Norm(), FPGM()])
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_updates_piece_by_piece_come_to_the_same(monkeypatch, metric, relaxation):
    constraint = ChannelConstraint(GROUPS, metric)
    states = []
    for piece in (2**19, 2):
        monkeypatch.setattr("admm_exp.admm.pieces.PIECE", piece)
        state = initial_state(tied_weights(0), constraint, 0.5)
        for seed in range(1, 4):
            state, _ = update(tied_weights(seed), state, constraint, relaxation)
        states.append(state)
    assert all(map(torch.equal, states[0].support, states[1].support))
    assert is_close(states[0].targets, states[1].targets, atol=1e-6)


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
@pytest.mark.parametrize("metric", [L2Norm(), L1Norm()])
def test_update_where_z_followed_is_one_from_the_state_that_followed(metric, relaxation):
    constraint = ChannelConstraint(GROUPS, metric)
    state, _ = update(tied_weights(1), initial_state(tied_weights(0), constraint, 0.5), constraint)
    W = tied_weights(2)
    expected, asked = update(W, following(state, W, constraint), constraint, relaxation)
    got, residuals = update_(W, state, constraint, relaxation, follows=True)
    assert all(map(torch.equal, got.support, expected.support))
    assert is_close(got.targets, expected.targets, atol=1e-6)
    assert residuals.primal_residual == pytest.approx(asked.primal_residual, rel=1e-5)
    assert residuals.dual_residual == pytest.approx(asked.dual_residual, rel=1e-5)


def test_update_in_place_needs_no_memory_of_the_size_of_t():
    state = initial_state(tied_weights(0), CONSTRAINT, 0.5)
    places = [t.data_ptr() for t in state.targets]
    new, _ = update_(tied_weights(1), state, CONSTRAINT)
    assert [t.data_ptr() for t in new.targets] == places
    assert new.targets is not state.targets  # who keeps what depends on T sees that it changed


@pytest.mark.parametrize("metric", [L2Norm(), L1Norm(), FPGM(), Random(0)])
@pytest.mark.parametrize("follows", [False, True])
def test_one_pass_gives_z_and_u_of_the_plain_formula_to_the_last_bit(metric, follows):
    constraint = ChannelConstraint(GROUPS, metric)
    state, moved = initial_state(tied_weights(0), constraint, 0.5), 0
    for seed in range(1, 30):
        W = tied_weights(seed)
        before = following(state, W, constraint) if follows else state
        U = split(before, constraint)[1]
        X = [w + u for w, u in zip(W, U, strict=True)]
        state, _ = update_(W, state, constraint, follows=follows)
        expected = constraint.select(X)
        kept, removed = expected, [~own for own in expected]
        assert all(map(torch.equal, state.support, expected))
        assert all(map(torch.equal, split(state, constraint)[0], zeroed(X, GROUPS, kept)))
        assert all(map(torch.equal, split(state, constraint)[1], zeroed(X, GROUPS, removed)))
        moved += not all(map(torch.equal, before.support, expected))
    assert moved > 5 or isinstance(metric, Random)


class SignedSum:
    """A metric of a user's, for which a sign matters."""

    def __call__(self, theta, group):
        return theta.sum(dim=1)


def test_a_metric_that_reads_signs_sees_x_itself():
    constraint = ChannelConstraint(GROUPS, SignedSum())
    state = initial_state(tied_weights(0), constraint, 0.5)
    for seed in range(1, 10):
        W = tied_weights(seed)
        X = [w + u for w, u in zip(W, split(state, constraint)[1], strict=True)]
        state, _ = update(W, state, constraint)
        assert all(map(torch.equal, state.support, constraint.select(X)))


class LargestResult(TorchDispatchMode):
    """Watch what operations make that is no view of what was there."""

    def __init__(self, known):
        super().__init__()
        self.known, self.n_scalars = {t.untyped_storage().data_ptr() for t in known}, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            is_new = (
                isinstance(tensor, torch.Tensor)
                and tensor.untyped_storage().data_ptr() not in self.known
            )
            self.n_scalars = max(self.n_scalars, tensor.numel()) if is_new else self.n_scalars
        return made


@pytest.mark.parametrize("metric", [L2Norm(), L1Norm()])
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_no_temporary_of_an_update_is_larger_than_the_largest_weight(metric, relaxation):
    members = tuple(Member(i, 0) for i in range(4))
    constraint = ChannelConstraint((ChannelGroup("all", 8, 4, members),), metric)
    W = [torch.randn(8, n) for n in (30, 200, 10, 200)]
    state = initial_state(W, constraint, 0.5)
    with LargestResult([*W, *state.targets]) as watched:
        update_(W, state, constraint, relaxation)
    assert 0 < watched.n_scalars <= 8 * 200


class CountOperations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(operation.__name__)
        return operation(*args, **(kwargs or {}))


def test_the_penalty_is_two_operations_whatever_the_number_of_weights():
    W = [torch.randn(4, 3) for _ in range(50)]
    with CountOperations() as counted:
        add_penalty_gradient_(W, W, W, 0.7)
    assert counted.names == ["_foreach_add_.List", "_foreach_add_.List"]


def test_a_frozen_update_keeps_the_support_that_a_free_one_would_change():
    state, W = initial_state(tied_weights(0), CONSTRAINT, 0.5), tied_weights(7)
    free, _ = update(W, state, CONSTRAINT)
    frozen, _ = update(W, state, CONSTRAINT, is_frozen=True)
    assert not all(map(torch.equal, free.support, state.support))
    assert all(map(torch.equal, frozen.support, state.support))


@pytest.mark.parametrize(("rho", "step"), [(0.5, 1.0), (2.0, 1.0), (100.0, 3.0)])
def test_a_pull_never_reaches_its_target(rho, step):
    W, T = torch.tensor([1.0, -2.0]).double(), torch.tensor([3.0, 0.0]).double()
    expected = (W + step * rho * T) / (1 + step * rho)
    pull_([W], [T], rho, step)
    assert torch.allclose(W, expected, rtol=1e-12)


def test_a_pull_of_single_units_makes_no_tensor_as_large_as_a_weight():
    W, T = torch.randn(40, 30, 3).double(), torch.randn(40, 30, 3)
    share = (torch.arange(40) % 2).double().view(40, 1, 1).expand_as(W)
    expected = torch.where(share > 0, (W + 2 * T) / 3, W)
    T = T.double()
    with LargestResult([W, T, share]) as largest:
        pull_([W], [T], 2.0, 1.0, [share])
    assert largest.n_scalars <= 40
    assert torch.allclose(W, expected, rtol=1e-12)


def test_the_example_runs():
    assert run_examples(update_) >= 6
