"""Tables of positions, whose rows are chosen by their place, are cut along their channels."""

import pytest
import torch
from support.halves import assert_halves
from torch import Tensor, nn

from admm_exp.pruning.dependency import tables
from admm_exp.pruning.dependency.graph import trace_groups
from admm_exp.pruning.dependency.labels import Labels

TOKENS = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1))
PLACES = torch.tensor([0, 2, 1, 3, 4, 6])


class Placed(nn.Module):
    """Tokens of 8 channels that meet a table (1, 7, 8) before they are read."""

    def __init__(self, meet, shape=(1, 7, 8)):
        super().__init__()
        self.a, self.fc, self.meet = nn.Linear(5, 8), nn.Linear(8, 3), meet
        self.table = nn.Parameter(torch.randn(shape))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.meet(torch.relu(self.a(tokens)), self.table).mean(1))


MEETINGS = {
    "all but the first": lambda x, table: x + table[:, 1:],
    "the first as a token": lambda x, table: torch.cat([x + table[:, 1:], table[:, :1] * x], 1),
    "chosen by an index": lambda x, table: x * table[0][PLACES],
    "chosen by index_select": lambda x, table: x * table.index_select(1, PLACES),
    "one of several": lambda x, table: x * table.unbind(1)[3],
    "turned": lambda x, table: x + table.permute(0, 2, 1).permute(0, 2, 1)[:, 1:],
    "split": lambda x, table: x * table.split([6, 1], 1)[0],
}


@pytest.mark.parametrize("meet", MEETINGS.values(), ids=list(MEETINGS))
def test_rows_of_a_table_are_chosen_by_position(meet):
    assert_halves(Placed(meet), TOKENS, "a")


def test_a_table_that_is_multiplied_with_queries_is_cut_with_their_channels():
    def meet(x, table):
        return x + torch.einsum("btc,tkc->btk", x, table[0][PLACES[:, None] - PLACES]) @ x

    assert_halves(Placed(meet, (1, 13, 8)), TOKENS, "a")


def test_entries_of_a_large_table_differ_along_channels_in_sight(monkeypatch):
    monkeypatch.setattr(tables, "MAX_ELEMENTS", 10)
    labels = Labels()
    assert tables.entries_of(torch.zeros(1, 4, 3, 3), labels, {4}).shape == (1, 4, 1, 1)
    assert tables.entries_of(torch.zeros(2, 6), labels, {4}).shape == (1, 6)


@pytest.mark.parametrize("meet", MEETINGS.values(), ids=list(MEETINGS))
def test_a_large_table_is_followed(monkeypatch, meet):
    monkeypatch.setattr(tables, "MAX_ELEMENTS", 10)
    assert_halves(Placed(meet), TOKENS, "a")


def test_channels_of_a_layer_are_not_chosen_as_rows_of_a_table():
    class Chosen(nn.Sequential):
        def forward(self, tokens):
            return super().forward(tokens.transpose(1, 2))[:, 1:4]

    model = Chosen(nn.Conv1d(5, 8, 1), nn.Conv1d(8, 7, 1))
    (last,) = [group for group in trace_groups(model, TOKENS) if group.name == "1"]
    assert "picks its channels by position" in str(last.reason)
