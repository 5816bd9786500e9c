from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracles import tied_groups, tied_weights, zeroed

from admm_exp.admm.groups import (
    ChannelGroup,
    Member,
    count_kept,
    row_masks,
    row_matrix,
    rows_of,
    unit_energies,
    unit_matrix,
)


@pytest.mark.parametrize(
    ("n_units", "sparsity", "kept"),
    [(10, 0.9, 1), (10, 0.3, 7), (10, 0.7, 3), (100, 0.29, 71), (100, 0.57, 43), (7, 0.5, 4)],
)
def test_awkward_floats_keep_what_the_decimal_says(n_units, sparsity, kept):
    assert count_kept(n_units, sparsity) == kept


@settings(deadline=None)
@given(st.integers(1, 4096), st.integers(0, 99_999))
def test_count_is_that_of_exact_decimal_arithmetic(n_units, digits):
    literal = f"0.{digits:05d}"
    exact = n_units - (Fraction(literal) * n_units).__floor__()
    assert count_kept(n_units, float(literal)) == max(1, exact)


@pytest.mark.parametrize("sparsity", [0.999999, 1.0 - 1e-12])
@pytest.mark.parametrize("n_units", [1, 2, 10, 99])
def test_one_channel_always_stays(n_units, sparsity):
    assert count_kept(n_units, sparsity) == 1


def test_every_block_keeps_its_own_floor_and_at_least_one():
    assert count_kept(12, 0.5, n_blocks=4) == 4 * (3 - 1)
    assert count_kept(12, 0.99, n_blocks=4) == 4


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.2, float("nan")])
def test_sparsity_outside_0_and_1_is_refused(sparsity):
    with pytest.raises(ValueError, match=rf"^sparsity must be in \[0, 1\), got {sparsity}$"):
        count_kept(10, sparsity)


@pytest.mark.parametrize("n_kept", [0, 5, -1])
def test_group_refuses_an_impossible_number_of_kept_channels(n_kept):
    with pytest.raises(ValueError, match=rf"^conv: n_kept must be in \[1, 4\], got {n_kept}$"):
        ChannelGroup("conv", 4, n_kept, (Member(0, 0),))


@pytest.mark.parametrize(("n_units", "n_kept"), [(6, 3), (5, 4)])
def test_group_refuses_counts_that_do_not_divide_into_its_blocks(n_units, n_kept):
    with pytest.raises(ValueError, match="must both divide into 2 blocks"):
        ChannelGroup("conv", n_units, n_kept, (Member(0, 0),), n_blocks=2)


def test_row_of_a_unit_holds_exactly_its_scalars():
    weights, group = tied_weights(), tied_groups()[0]
    for unit, row in enumerate(unit_matrix(weights, group)):
        double = [weights[2][r] for r in group.members[2].rows[unit]]
        parts = [weights[0][unit], weights[1][:, unit], *double, weights[3][unit : unit + 1]]
        assert torch.equal(row, torch.cat(parts))


def test_unit_matrices_hold_every_scalar_once():
    weights, groups = tied_weights(), tied_groups()
    stacked = torch.cat([unit_matrix(weights, group).flatten() for group in groups])
    expected = torch.cat([weight.flatten() for weight in weights])
    assert torch.equal(stacked.sort().values, expected.sort().values)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 2))
def test_masks_zero_the_rows_of_removed_units_and_no_others(first, second):
    weights, groups = tied_weights(), tied_groups()
    support = (torch.tensor(first), torch.arange(3) == second)
    masks = row_masks(weights, groups, support)
    masked = [weight * mask for weight, mask in zip(weights, masks, strict=True)]
    assert all(map(torch.equal, masked, zeroed(weights, groups, support)))


def test_masks_broadcast_along_all_but_the_channel_dimension():
    weights, groups = tied_weights(), tied_groups()
    masks = row_masks(weights, groups, (torch.ones(4).bool(), torch.ones(3).bool()))
    assert [tuple(mask.shape) for mask in masks] == [(4, 1), (1, 4), (8, 1), (7,), (3, 1, 1)]
    assert all(mask.dtype == torch.bool for mask in masks)


@pytest.mark.parametrize(
    ("n_units", "sparsity", "n_blocks", "multiple", "expected"),
    [
        (64, 0.5, 1, 8, 32),
        (64, 0.7, 1, 8, 24),  # 20 is halfway between 16 and 24
        (64, 0.99, 1, 8, 8),  # never 0
        (20, 0.1, 1, 8, 20),  # 18 is nearer to all 20 than to 16
        (20, 0.3, 1, 8, 16),  # 14
        (6, 0.5, 1, 8, 6),  # fewer than the multiple
        (24, 0.5, 3, 8, 24),  # 12 of 24, in thirds: only 24 is a multiple of both
        (48, 0.4, 3, 8, 24),
    ],
)
def test_kept_units_are_rounded_to_a_multiple(n_units, sparsity, n_blocks, multiple, expected):
    assert count_kept(n_units, sparsity, n_blocks, multiple) == expected


@given(st.integers(1, 300), st.floats(0.0, 0.999), st.integers(1, 40))
def test_no_allowed_count_is_nearer_than_the_rounded_one(n_units, sparsity, multiple):
    exact = count_kept(n_units, sparsity)
    allowed = [n for n in range(1, n_units + 1) if n % multiple == 0 or n == n_units]
    nearest = min(abs(n - exact) for n in allowed)
    rounded = count_kept(n_units, sparsity, multiple=multiple)
    assert rounded in allowed
    assert abs(rounded - exact) == nearest


def test_energies_are_the_squares_of_the_rows_of_the_unit_matrices():
    weights, groups = tied_weights(), tied_groups()
    energies = unit_energies(iter(weights), groups)
    for group, found in zip(groups, energies, strict=True):
        torch.testing.assert_close(found, unit_matrix(weights, group).square().sum(dim=1))


def test_energies_of_a_convolution_hold_in_every_layout():
    weight = torch.randn(3, 4, 5, 5)
    group = ChannelGroup("conv", 4, 1, (Member(0, 1),))
    expected = torch.stack([weight[:, unit].square().sum() for unit in range(4)])
    for layout in (torch.contiguous_format, torch.channels_last):
        (found,) = unit_energies([weight.to(memory_format=layout)], (group,))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rows_are_laid_out_without_a_copy_in_every_layout(layout):
    weight = torch.randn(3, 4, 5, 5).to(memory_format=layout)
    rows = row_matrix(weight, 0)
    assert rows.data_ptr() == weight.data_ptr()
    assert torch.equal(rows.sort(dim=1).values, weight.flatten(1).sort(dim=1).values)


def test_a_value_of_a_unit_goes_to_all_rows_it_owns():
    values = [torch.arange(4), 4 + torch.arange(3)]
    rows = rows_of(tied_weights(), tied_groups(), values)
    assert rows[2].tolist() == [0, 2, 1, 3, 2, 0, 3, 1]  # a unit owns two
    assert rows[3].tolist() == list(range(7))  # a norm over both groups
