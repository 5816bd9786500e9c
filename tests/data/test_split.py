"""The stratified split."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admm_exp.data.split import stratified_part, stratified_split
from admm_exp.errors import DataError

class_sizes = st.lists(st.integers(2, 30), min_size=1, max_size=6)
fractions = st.floats(0.001, 0.999)
many = settings(max_examples=50, deadline=None)


def labels_of(sizes: list[int]) -> torch.Tensor:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@many
@given(class_sizes, fractions, st.integers(0, 2**31))
def test_both_sides_together_are_all_samples_once(sizes, fraction, seed):
    labels = labels_of(sizes)
    kept, held_out = stratified_split(labels, fraction, seed)
    assert torch.equal(torch.cat([kept, held_out]).sort().values, torch.arange(len(labels)))


@many
@given(class_sizes, fractions)
def test_every_class_gives_its_fair_share_and_is_on_both_sides(sizes, fraction):
    labels = labels_of(sizes)
    _, held_out = stratified_split(labels, fraction, 0)
    given_away = torch.bincount(labels[held_out], minlength=len(sizes)).tolist()
    for n, n_held_out in zip(sizes, given_away, strict=True):
        assert 1 <= n_held_out <= n - 1
        assert abs(n_held_out - fraction * n) <= 1


def test_same_seed_gives_the_same_split_and_another_seed_another():
    labels = labels_of([50, 50])
    first, again, other = (stratified_split(labels, 0.2, seed)[1] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fraction_outside_0_and_1_is_refused_under_the_users_key(fraction):
    with pytest.raises(DataError, match=r"^val_fraction must be in \(0, 1\), got "):
        stratified_split(labels_of([4, 4]), fraction, 0, key="val_fraction")


def test_class_of_one_sample_is_refused():
    with pytest.raises(DataError, match=r"^class 1 must have at least 2 samples .* got 1$"):
        stratified_split(labels_of([4, 1]), 0.5, 0)


def test_what_is_left_of_a_part_goes_to_the_largest_remainder():
    labels = labels_of([50, 30, 20])  # 12 of them are 6.0, 3.6 and 2.4
    assert torch.bincount(labels[stratified_part(labels, 12, 0)]).tolist() == [6, 4, 2]


@many
@given(class_sizes, st.integers(0, 200), st.integers(0, 2**31))
def test_a_part_has_the_size_asked_for_and_every_class_its_share(sizes, extra, seed):
    labels = labels_of(sizes)
    n = min(len(labels), 2 * len(sizes) + extra)
    part = stratified_part(labels, n, seed)
    counts = torch.bincount(labels[part], minlength=len(sizes)).tolist()
    assert part.tolist() == sorted(set(part.tolist()))
    assert len(part) == n
    for size, count in zip(sizes, counts, strict=True):
        assert 2 <= count <= size
        assert count >= int(n * size / len(labels)) - len(sizes)


def test_a_part_of_equal_classes_is_shared_out_equally():
    labels = labels_of([100] * 10)
    assert torch.bincount(labels[stratified_part(labels, 400, 0)]).tolist() == [40] * 10


def test_a_smaller_part_lies_in_a_larger_one():
    labels = labels_of([100] * 10)
    small, large = (set(stratified_part(labels, n, 3).tolist()) for n in (100, 300))
    assert small < large
    assert small != set(stratified_part(labels, 100, 4).tolist())


def test_no_part_takes_all():
    assert stratified_part(labels_of([4, 3]), None, 0).tolist() == list(range(7))


@pytest.mark.parametrize("n", [-1, 0, 3, 8])
def test_a_part_that_cannot_be_had_is_refused_with_its_bounds(n):
    message = rf"^dataset.train_images must be in \[4, 7\], two a class at least, got {n}$"
    with pytest.raises(DataError, match=message):
        stratified_part(labels_of([4, 3]), n, 0)
