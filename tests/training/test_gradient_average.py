"""What several processes send of their gradients, without the other processes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from admm_exp.training import gradient_average
from admm_exp.training.gradient_average import average_gradients


@pytest.fixture
def sent(monkeypatch):
    """Be one of two processes; the other has gradients of zero, so that the average is a half."""
    sums = []

    def all_reduce(flat, async_op):
        sums.append(flat)
        return SimpleNamespace(wait=lambda: None)

    monkeypatch.setattr(gradient_average, "world_size", lambda: 2)
    monkeypatch.setattr(gradient_average.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(gradient_average, "averaged", lambda flat: flat / 2)
    return sums


def test_gradients_that_lie_where_those_lay_that_were_sent_are_not_taken_for_them(
    sent, monkeypatch
):
    """A first pass is thrown away; its memory, and so its id, may go to the next gradient."""
    monkeypatch.setattr(gradient_average, "id", lambda gradient: 0, raising=False)
    weight = nn.Parameter(torch.ones(3))
    optimizer = average_gradients(torch.optim.SGD([weight], 1.0))
    for scale in (7.0, 4.0):
        optimizer.zero_grad(set_to_none=True)
        (scale * weight).sum().backward()
    optimizer.step()
    assert len(sent) == 1
    assert weight.tolist() == [-1.0] * 3
