"""Random numbers of an epoch."""

import torch

from admm_exp.data.epoch_random import epoch_generator


def numbers(seed: int, epoch: int) -> list[int]:
    return torch.randint(10**9, (4,), generator=epoch_generator(seed, epoch)).tolist()


def test_same_seed_and_epoch_give_the_same_numbers():
    assert numbers(3, 7) == numbers(3, 7)


def test_neighbouring_seeds_and_epochs_share_no_stream():
    pairs = [(seed, epoch) for seed in range(-2, 8) for epoch in range(10)]
    assert len({tuple(numbers(*pair)) for pair in pairs}) == len(pairs)


def test_seeds_that_differ_above_32_bits_differ():
    assert numbers(1, 0) != numbers(1 + 2**32, 0)
