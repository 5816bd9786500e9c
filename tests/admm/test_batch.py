import torch

from admm_exp.admm.batch import batched, by_batch, by_group
from admm_exp.admm.energies import Energies


def made(monkeypatch, sizes, many):
    monkeypatch.setattr("admm_exp.admm.batch.MANY_UNITS", many)
    support = [torch.rand(n) < 0.5 for n in sizes]
    energies = [Energies(*torch.rand(3, n)) for n in sizes]
    return energies, support, batched(energies, support, 1.6, follows=False)


def test_groups_stand_side_by_side_until_there_are_many_units(monkeypatch):
    energies, support, batches = made(monkeypatch, [3, 4, 9, 1, 1], 6)
    assert [batch.sizes for batch in batches] == [[3, 4], [9], [1, 1]]
    assert torch.equal(batches[0].before, torch.cat(support[:2]))
    assert torch.equal(batches[2].energies.t, torch.cat([energies[3].t, energies[4].t]))


def test_values_of_groups_go_side_by_side_and_come_back(monkeypatch):
    _, support, batches = made(monkeypatch, [3, 4, 9, 1, 1], 6)
    assert all(map(torch.equal, by_group(batches, by_batch(batches, support)), support))


def test_x_of_a_batch_is_that_of_its_groups(monkeypatch):
    energies, support, batches = made(monkeypatch, [3, 4], 100)
    a = 1.6
    for own, kept, x in zip(energies, support, by_group(batches, [batches[0].x()]), strict=True):
        expected = torch.where(kept, own.of(a, 1 - a), own.of(a, -1.0))  # U is -T where removed
        torch.testing.assert_close(x, expected)
