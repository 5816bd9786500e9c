"""Codes of tensors, united entry by entry."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from admm_exp.pruning.dependency.flow import Flow
from admm_exp.pruning.dependency.labels import FIXED, Labels, is_shifted, label_of, shifted
from admm_exp.pruning.dependency.shape_rules import join


@pytest.mark.parametrize(("first", "second"), list(itertools.product([False, True], repeat=2)))
def test_a_united_entry_is_shifted_where_one_of_the_two_is(first: bool, second: bool) -> None:
    labels = Labels()
    a, b = labels.fresh(1), labels.fresh(1)
    united = labels.unite(shifted(a) if first else a, shifted(b) if second else b)
    assert bool(is_shifted(united)) == (first or second)
    assert label_of(united) == label_of(labels.find(a)) == label_of(labels.find(b))


def test_parts_that_are_not_followed_stay_fixed_in_a_join() -> None:
    followed, constant = torch.zeros(1, 3), torch.ones(1, 2)
    codes = Labels().fresh(3)[None]
    flow: Any = SimpleNamespace(codes=lambda tensor: codes if tensor is followed else None)
    joined = join(flow, torch.ops.aten.cat.default, ([followed, constant], 1), {}, None)
    assert joined.tolist() == [[*codes[0].tolist(), FIXED, FIXED]]


def test_a_long_chain_of_labels_ends_at_its_smallest():
    labels = Labels()
    codes = labels.fresh(50)
    for i in reversed(range(49)):
        labels.unite(codes[i : i + 1], codes[i + 1 :][:1])
    alone = labels.fresh(3)
    assert labels.find(shifted(codes)).tolist() == [int(shifted(codes[0]))] * 50
    assert torch.equal(labels.find(alone), alone)


def test_codes_that_were_looked_up_are_looked_up_anew_once_they_are_united() -> None:
    flow = Flow(torch.nn.Identity())
    first, second = torch.zeros(2), torch.zeros(2)
    flow.mark(first, flow.labels.fresh(2))
    flow.mark(second, flow.labels.fresh(2))
    old, new = flow.codes(first), flow.codes(second)
    assert old is not None
    assert new is not None
    flow.labels.unite(old, new)
    codes = flow.codes(second)
    assert codes is not None
    assert torch.equal(codes, old)
