from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.halves import assert_halves
from torch import nn

from admm_exp.errors import ModelError
from admm_exp.pruning.dependency.outputs import difference
from admm_exp.pruning.surgery.find import find_groups

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@dataclass
class Output:
    logits: torch.Tensor
    hidden: Any = None


class Two(nn.Module):
    def __init__(self, tail):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.fc, self.tail = nn.Linear(12, 4), tail

    def forward(self, images):
        return self.tail(self.fc(F.relu(self.b(F.relu(self.a(images)))).mean((2, 3))))


@pytest.mark.parametrize(
    "tail",
    [
        lambda z: (z, None),
        lambda z: (z, 8, 0.5, "text"),
        lambda z: (z, z > 0),
        lambda z: (z, z[:0]),
        lambda z: {"logits": z, "classes": z.argmax(1), "nested": [z, {"more": (z,)}]},
        Output,
        lambda z: Output(z, Output(2 * z)),
        lambda z: torch.distributions.Normal(z, 1.0),
        lambda z: (z, float(z.sum())),
        lambda z: z.max(1),
        lambda z: torch.complex(z, z),
    ],
    ids=[
        *("None", "numbers and text", "mask", "empty", "nested", "dataclass", "two dataclasses"),
        *("distribution", "number", "named tuple", "complex"),
    ],
)
def test_outputs_may_be_anything(tail):
    model = Two(tail)
    groups = {group.name for group in find_groups(model, IMAGES).groups}
    assert groups == {"a", "b"}


def test_outputs_in_a_dataclass_are_compared_at_the_cut():
    assert_halves(Two(lambda z: Output(z, (None, 2 * z))), IMAGES, "a", "b")


@pytest.mark.parametrize("tail", [lambda z: z.argmax(1), lambda z: z > 0, lambda z: None])
def test_without_numbers_among_the_outputs_those_of_layers_are_compared(tail):
    assert {group.name for group in find_groups(Two(tail), IMAGES).groups} >= {"a", "b"}


def test_a_wrong_cut_is_seen_behind_outputs_without_numbers():
    class Wrong(Two):
        def forward(self, images):
            features = F.relu(self.a(images))
            scale = 8 / features.shape[1]  # counts the channels
            return self.fc(F.relu(self.b(scale * features)).mean((2, 3))) > 1e9

    kept = {group.name for group in find_groups(Wrong(None), IMAGES).kept}
    assert "a" in kept


def test_masks_may_differ_in_single_entries_alone():
    mask = torch.arange(1000) % 2 == 0
    turned = mask.clone()
    turned[:3] ^= True
    assert difference(mask, turned).absolute == 0.0
    assert difference(mask, ~mask).relative == 1.0


@pytest.mark.parametrize(
    ("expected", "got", "sentence"),
    [
        ([torch.ones(2)], [], "0 outputs, not 1"),
        (torch.ones(2), torch.ones(3), r"shape \(3,\), not \(2,\)"),
        ((torch.ones(2), None), (torch.ones(2), torch.ones(2)), "type Tensor, not NoneType"),
    ],
)
def test_outputs_of_another_structure_are_refused(expected, got, sentence):
    with pytest.raises(ValueError, match=sentence):
        difference(expected, got)


def test_numbers_are_compared_by_their_difference():
    found = difference((1.0, [torch.tensor([3.0, 1.0])]), (1.5, [torch.tensor([5.0, 1.0])]))
    assert (found.absolute, found.relative) == (2.0, 50.0)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (lambda z: F.dropout(z, 0.5), "the Two"),
        (lambda z: z + torch.randn_like(z), "the Two"),
        (nn.Sequential(nn.Linear(4, 4), nn.RReLU(0.1, 0.9)).train(), "nothing"),
    ],
)
def test_a_network_random_in_evaluation_is_called_that(body, place):
    model = Two(body)
    if place == "nothing":
        find_groups(model, IMAGES)
        return
    with pytest.raises(ModelError, match=f"random in evaluation mode: the same input.*{place}"):
        find_groups(model, IMAGES)
