import random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from admm_exp.training.seeding import restore_rng_state, rng_state, seed_everything


@pytest.fixture(autouse=True)
def restored_generators():
    state, cudnn = rng_state(), torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    yield
    restore_rng_state(state)
    cudnn.deterministic, cudnn.benchmark = flags


def draw() -> list[float]:
    # An odd number of Gaussians leaves the second of a pair inside the generator.
    python = [random.random(), random.gauss(0, 1)]
    numpy = [np.random.rand(), np.random.randn()]
    return [*python, *numpy, *torch.randn(3).tolist()]


def test_same_seed_draws_the_same_numbers():
    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first


def test_other_seed_draws_other_numbers():
    seed_everything(7)
    first = draw()
    seed_everything(8)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_cudnn_is_asked_for_deterministic_kernels():
    torch.backends.cudnn.benchmark = True
    seed_everything(0)
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=rf"seed must be in \[0, 2\*\*32\), got {seed}"):
        seed_everything(seed)


@pytest.mark.parametrize("draws_before", [0, 1, 2])
def test_restored_generators_go_on_with_the_same_numbers(draws_before):
    seed_everything(5)
    for _ in range(draws_before):
        draw()
    state = rng_state()
    expected = [draw(), draw()]
    restore_rng_state(state)
    assert [draw(), draw()] == expected


def test_state_goes_through_a_file_without_pickle():
    state = load(save(rng_state()))
    expected = draw()
    restore_rng_state(state)
    assert draw() == expected


def test_reading_the_state_draws_nothing():
    seed_everything(1)
    expected = draw()
    seed_everything(1)
    rng_state()
    assert draw() == expected


def test_state_is_a_copy():
    state = rng_state()
    before = {key: value.clone() for key, value in state.items()}
    draw()
    assert all(torch.equal(state[key], before[key]) for key in state)


def test_state_of_a_device_that_is_not_here_is_left_out():
    state = rng_state() | {"cuda:99": torch.zeros(16, dtype=torch.uint8)}
    expected = draw()
    restore_rng_state(state)
    assert draw() == expected


def test_missing_generator_is_an_error():
    state = rng_state()
    del state["numpy"]
    with pytest.raises(KeyError, match="numpy"):
        restore_rng_state(state)


@pytest.mark.gpu
def test_gpu_generator_is_restored():
    state = rng_state()
    expected = torch.randn(3, device="cuda").tolist()
    restore_rng_state(state)
    assert torch.randn(3, device="cuda").tolist() == expected


@pytest.mark.parametrize("position", [-1, 625, 10**6])
def test_a_position_past_numpys_words_is_refused(position):
    state = rng_state()
    state["numpy"][-1] = position
    with pytest.raises(ValueError, match=f"has no position {position}"):
        restore_rng_state(state)
