import torch

from admm_exp.admm.pieces import pieces_of, row_pieces

SHAPES = [(40, 9), (3,), (2, 500), (7, 30), (1,), (100, 3, 2)]


def test_pieces_hold_every_scalar_once_and_no_more_than_a_piece_or_a_row(monkeypatch):
    monkeypatch.setattr("admm_exp.admm.pieces.PIECE", 64)
    lists = [[torch.randn(shape) for shape in SHAPES] for _ in range(2)]
    pieces = list(pieces_of(*lists))
    for i, tensors in enumerate(lists):
        expected = torch.cat([t.flatten() for t in tensors])
        assert torch.equal(torch.cat([t.flatten() for p in pieces for t in p[i]]), expected)
    assert max(sum(t.numel() for t in first) for first, _ in pieces) == 500


def test_row_pieces_run_along_the_dimension(monkeypatch):
    monkeypatch.setattr("admm_exp.admm.pieces.PIECE", 64)
    weight = torch.randn(9, 40)
    pieces = [first for first, _ in row_pieces(1, weight, weight)]
    assert [tuple(p.shape) for p in pieces] == [(9, 7)] * 5 + [(9, 5)]
    assert torch.equal(torch.cat(pieces, dim=1), weight)
