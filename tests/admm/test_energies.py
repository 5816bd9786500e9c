import pytest
import torch
from support.oracles import tied_groups, tied_weights

from admm_exp.admm.energies import channel_energies
from admm_exp.admm.groups import unit_matrix
from admm_exp.admm.mixture import Mixture

GROUPS = tied_groups()


@pytest.mark.parametrize("piece", [2**19, 2])
def test_energies_are_the_squares_of_the_rows_of_the_unit_matrices(monkeypatch, piece):
    monkeypatch.setattr("admm_exp.admm.pieces.PIECE", piece)
    W, T = tied_weights(0), tied_weights(1)
    for group, energies in zip(GROUPS, channel_energies(W, T, GROUPS), strict=True):
        w, t = unit_matrix(W, group), unit_matrix(T, group)
        torch.testing.assert_close(energies.w, w.square().sum(dim=1))
        torch.testing.assert_close(energies.t, t.square().sum(dim=1))
        torch.testing.assert_close(energies.distance, (w - t).square().sum(dim=1))
        for a, b in ((1.0, 0.0), (1.0, -1.0), (0.3, -2.0), (1.6, -0.6)):
            torch.testing.assert_close(energies.of(a, b), (a * w + b * t).square().sum(dim=1))


def test_nothing_cancels_where_w_is_t_but_for_the_last_bits():
    W = tied_weights(0)
    T = [w * (1 + 1e-6) for w in W]
    for group, energies in zip(GROUPS, channel_energies(W, T, GROUPS), strict=True):
        distance = (unit_matrix(W, group) - unit_matrix(T, group)).double().square().sum(dim=1)
        torch.testing.assert_close(energies.of(1.0, -1.0).double(), distance, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("has_a", [False, True])
def test_mixture_is_a_list_of_sums_and_their_pieces(monkeypatch, has_a):
    monkeypatch.setattr("admm_exp.admm.pieces.PIECE", 4)
    W, T = ([torch.randn(6, 3), torch.randn(2, 4)] for _ in range(2))
    b = [torch.randn(6, 1), torch.randn(1, 4)]
    a = [torch.randn(6, 1), torch.randn(1, 4)] if has_a else None
    mixture = Mixture(W, T, a, b)
    expected = [(a[i] if has_a else 1.0) * W[i] + b[i] * T[i] for i in range(2)]
    assert len(mixture) == 2
    for i, dim in ((0, 0), (1, 1)):
        torch.testing.assert_close(mixture[i], expected[i])
        torch.testing.assert_close(torch.cat(list(mixture.pieces(i, dim)), dim), expected[i])
    torch.testing.assert_close(mixture[0:2], expected)
