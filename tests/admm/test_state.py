from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from support.oracles import nearest_support, tied_groups, tied_weights, zeroed
from torch import nn

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.metrics import L2Norm
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.state import (
    State,
    following,
    from_tensors,
    initial_state,
    split,
    to_tensors,
    with_rho,
    with_rho_,
)
from admm_exp.admm.update import add_penalty_gradient_, update, update_

CONSTRAINT = ChannelConstraint(tied_groups(), L2Norm())
LINEAR = ChannelConstraint((ChannelGroup("fc", 3, 1, (Member(0, 0), Member(1, 0))),), L2Norm())


def state_after(n_updates, rho=0.5):
    state = initial_state(tied_weights(0), CONSTRAINT, rho)
    for seed in range(1, n_updates + 1):
        state, _ = update(tied_weights(seed), state, CONSTRAINT)
    return state


def through_a_file(state):
    return from_tensors(load(save(to_tensors(state))))


def test_start_is_the_projection_of_w_and_no_dual():
    weights = tied_weights(3)
    Z, U = split(initial_state(weights, CONSTRAINT, 0.5), CONSTRAINT)
    nearest = nearest_support(weights, CONSTRAINT.groups)
    assert all(map(torch.equal, Z, zeroed(weights, CONSTRAINT.groups, nearest)))
    assert not any(bool(u.any()) for u in U)


def test_state_knows_the_support_of_the_iteration_before():
    start = initial_state(tied_weights(0), CONSTRAINT, 0.5)
    assert all(bool(kept.all()) for kept in start.earlier)  # nothing was removed before
    state, _ = update(tied_weights(1), start, CONSTRAINT)
    assert all(map(torch.equal, state.earlier, start.support))
    read = through_a_file(state)
    assert len(read.earlier) == len(start.support)
    assert all(map(torch.equal, read.earlier, start.support))


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan")])
def test_rho_that_is_not_positive_is_refused(rho):
    state = state_after(1)
    with pytest.raises(ValueError, match=rf"^rho must be greater than 0, got {rho}$"):
        initial_state(tied_weights(), CONSTRAINT, rho)
    with pytest.raises(ValueError, match=rf"^rho must be greater than 0, got {rho}$"):
        with_rho(state, CONSTRAINT, rho)


def test_split_gives_z_on_the_kept_units_and_u_off_them():
    Z, U = split(state := state_after(2), CONSTRAINT)
    removed = [~kept for kept in state.support]
    assert all(map(torch.equal, Z, zeroed(Z, CONSTRAINT.groups, state.support)))
    assert all(map(torch.equal, U, zeroed(U, CONSTRAINT.groups, removed)))
    assert all(torch.equal(z - u, t) for z, u, t in zip(Z, U, state.targets, strict=True))
    assert all(bool((z != 0).logical_xor(u != 0).all()) for z, u in zip(Z, U, strict=True))


def test_split_returns_tensors_of_its_own():
    state = state_after(2)
    before = [t.clone() for t in state.targets]
    for tensor in (*split(state, CONSTRAINT)[0], *split(state, CONSTRAINT)[1]):
        tensor.fill_(7.0)
    assert all(map(torch.equal, state.targets, before))


@settings(deadline=None, max_examples=40)
@given(st.floats(1e-4, 1e3), st.floats(1e-4, 1e3))
def test_rho_change_keeps_the_unscaled_dual_and_z(old_rho, new_rho):
    old = state_after(2, old_rho)
    new = with_rho(old, CONSTRAINT, new_rho)
    (Z_old, U_old), (Z_new, U_new) = split(old, CONSTRAINT), split(new, CONSTRAINT)
    assert new.rho == new_rho
    assert all(map(torch.equal, Z_new, Z_old))
    for u_new, u_old in zip(U_new, U_old, strict=True):
        assert torch.allclose(new_rho * u_new, old_rho * u_old, rtol=3e-7, atol=0.0)


def test_rho_change_leaves_support_iteration_and_the_old_state_alone():
    old = state_after(2)
    before = {name: tensor.clone() for name, tensor in to_tensors(old).items()}
    new = with_rho(old, CONSTRAINT, 5.0)
    assert new.iteration == old.iteration == 2
    assert all(map(torch.equal, new.support, old.support))
    assert all(torch.equal(tensor, before[name]) for name, tensor in to_tensors(old).items())


@pytest.mark.parametrize("rho", [1e-3, 0.1, 1 / 3, 7.0])
def test_state_goes_through_a_file_bit_by_bit(rho):
    state = state_after(3, rho)
    read = through_a_file(state)
    assert (read.rho, read.iteration) == (state.rho, 3)
    assert all(map(torch.equal, read.targets, state.targets))
    assert all(map(torch.equal, read.support, state.support))


def test_order_of_many_tensors_survives_the_file():
    targets = tuple(torch.tensor([float(i)]) for i in range(12))  # "10" sorts before "2"
    read = through_a_file(State(targets, (torch.tensor([True]),), 1.0))
    assert all(map(torch.equal, read.targets, targets))


def test_state_is_one_tensor_per_weight_and_two_bools_per_unit():
    weights, state = tied_weights(), state_after(2)
    tensors = [t for t in to_tensors(state).values() if t.dim() > 0]
    held = [value for value in vars(state).values() if isinstance(value, tuple)]
    assert sum(map(len, held)) == len(tensors) == len(weights) + 2 * 2
    assert [t.shape for t in state.targets] == [w.shape for w in weights]
    assert [t.untyped_storage().nbytes() for t in state.targets] == [4 * w.numel() for w in weights]
    for support in (state.support, state.earlier):
        assert [s.untyped_storage().nbytes() for s in support] == [4, 3]


def train(model, optimizer, state, n_iterations):
    """Do W-steps of three epochs on fixed data, each followed by a Z- and U-step."""
    weights = [model[0].weight, model[0].bias]
    x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    seen = []
    for _ in range(n_iterations):
        for _ in range(3):
            optimizer.zero_grad()
            (model(x) - x.sin()).square().mean().backward()
            add_penalty_gradient_([w.grad for w in weights], weights, state.targets, state.rho)
            optimizer.step()
        state, residuals = update(weights, state, LINEAR, relaxation=1.6)
        seen.append(residuals)
    return state, seen


def start_of_training():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return model, optimizer, initial_state([model[0].weight, model[0].bias], LINEAR, 0.3)


def test_two_iterations_a_file_and_three_more_are_five_bit_by_bit():
    model, optimizer, start = start_of_training()
    expected, expected_residuals = train(model, optimizer, start, 5)
    resumed, optimizer, start = start_of_training()
    state, first = train(resumed, optimizer, start, 2)
    state, rest = train(resumed, optimizer, through_a_file(state), 3)
    assert first + rest == expected_residuals
    assert state.iteration == expected.iteration == 5
    assert all(map(torch.equal, state.targets, expected.targets))
    assert all(map(torch.equal, resumed.parameters(), model.parameters()))


def test_z_of_the_kept_units_follows_w_and_the_rest_stays():
    state, weights = state_after(2), tied_weights(9)
    masks = CONSTRAINT.masks(state.targets, state.support)
    moved = following(state, weights, CONSTRAINT)
    for mask, w, old, new in zip(masks, weights, state.targets, moved.targets, strict=True):
        kept = mask.expand_as(w)
        assert torch.equal(new[kept], w[kept].float())
        assert torch.equal(new[~kept], old[~kept])
        assert not torch.equal(w[kept].float(), old[kept])


def test_an_update_knows_the_squares_of_the_t_that_it_wrote():
    state = state_after(3)
    known, all_squares = state.known_squares(), sum(float(t.square().sum()) for t in state.targets)
    assert known is not None
    assert float(known.sum()) == pytest.approx(all_squares, rel=1e-6)


def test_squares_are_forgotten_when_anybody_writes_t():
    state = state_after(2)
    state.targets[0].mul_(2.0)
    assert state.known_squares() is None


def test_squares_of_other_targets_are_not_taken():
    state = state_after(2)
    assert with_rho(state, CONSTRAINT, 2 * state.rho).known_squares() is None
    assert replace(state, targets=(*state.targets,)).known_squares() is None


@pytest.mark.parametrize("is_frozen", [False, True])
def test_known_squares_change_no_bit_of_an_update(is_frozen):
    knowing, asking = state_after(1), state_after(1)
    for seed in range(2, 8):
        weights = tied_weights(seed)
        knowing, residuals = update_(weights, knowing, CONSTRAINT, is_frozen=is_frozen)
        asking = replace(asking, squares=None)
        asking, expected = update_(weights, asking, CONSTRAINT, is_frozen=is_frozen)
        assert residuals == expected
        assert all(map(torch.equal, knowing.targets, asking.targets))
        assert all(map(torch.equal, knowing.support, asking.support))


def test_rho_change_in_place_gives_the_bits_of_one_in_new_memory():
    state, _ = update(tied_weights(1), initial_state(tied_weights(0), CONSTRAINT, 1.0), CONSTRAINT)
    expected = with_rho(state, CONSTRAINT, 3.0)
    assert all(a is not b for a, b in zip(expected.targets, state.targets, strict=True))
    changed = with_rho_(state, CONSTRAINT, 3.0)
    assert changed.targets is not state.targets  # seen by who keeps what depends on T
    for got, old, new in zip(changed.targets, state.targets, expected.targets, strict=True):
        assert got is old
        assert torch.equal(got, new)
    assert (changed.rho, changed.known_squares()) == (3.0, None)
    assert with_rho_(changed, CONSTRAINT, 3.0) is changed
