from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from support.halves import assert_halves, halved
from torch import nn

from admm_exp import ADMMPruner
from admm_exp.errors import ModelError
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.dependency.inputs import Form, accepted_form, call, first_sample, shapes_of

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OTHERS = IMAGES.flip(0)
Pair = namedtuple("Pair", "left right")


@dataclass
class Batch:
    left: torch.Tensor
    right: torch.Tensor
    weight: float = 2.0


class Siamese(nn.Module):
    """Two branches with one embedding; `read` says how they come out of the arguments."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(16, 4)

    def embed(self, images):
        return F.relu(self.b(F.relu(self.a(images)))).mean((2, 3))

    def join(self, left, right, scale=1.0):
        return scale * self.fc(torch.cat([self.embed(left), self.embed(right)], 1))


class Positional(Siamese):
    def forward(self, left, right, scale=1.0, **options):
        return self.join(left, right, options.get("scale", scale))


class Whole(Siamese):
    def forward(self, batch):
        if isinstance(batch, dict):
            return self.join(batch["left"], batch["right"])
        if isinstance(batch, Batch | Pair):
            return self.join(batch.left, batch.right)
        return self.join(*batch)


class Masked(nn.Module):
    """Attention with a mask, which is neither channels nor to be made random."""

    def __init__(self):
        super().__init__()
        self.embed, self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(4))
        self.up, self.fc = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, tokens, mask=None, name=""):
        x = self.embed(tokens)
        logits = self.q(x) @ self.k(x).transpose(1, 2)
        if mask is not None:
            logits = logits.masked_fill(~mask, -1e9)
        return self.fc(F.relu(self.up(logits.softmax(-1) @ self.v(x))))


@pytest.mark.parametrize(
    "inputs",
    [
        (IMAGES, OTHERS),
        [IMAGES, OTHERS],
        {"left": IMAGES, "right": OTHERS},
        (IMAGES, OTHERS, 2.0),
        (IMAGES, {"right": OTHERS}),
        {"left": IMAGES, "right": OTHERS, "scale": 0.5, "name": "x", "nothing": None},
    ],
    ids=["tuple", "list", "dict", "with a number", "args and kwargs", "with other things"],
)
def test_several_inputs_are_arguments(inputs):
    assert_halves(Positional(), inputs, "a", "b")


@pytest.mark.parametrize(
    "inputs",
    [
        (IMAGES, OTHERS),
        [IMAGES, OTHERS],
        {"left": IMAGES, "right": OTHERS, "n": 3},
        Pair(IMAGES, OTHERS),
        Batch(IMAGES, OTHERS),
    ],
    ids=["tuple", "list", "dict", "namedtuple", "dataclass"],
)
def test_a_structure_is_one_argument_where_the_network_takes_one(inputs):
    assert_halves(Whole(), inputs, "a", "b")


@pytest.mark.parametrize(
    "inputs",
    [
        {"tokens": torch.randn(4, 6, 8), "mask": torch.ones(4, 6, 6, dtype=torch.bool).tril()},
        (torch.randn(4, 6, 8), torch.ones(6, 6, dtype=torch.bool).tril(), "a name"),
    ],
    ids=["a mask for every sample", "a mask for all"],
)
def test_a_mask_among_the_inputs_ties_nothing(inputs):
    model = Masked()
    assert_halves(model, inputs, "up", "embed")
    planner = Planner(model, inputs)
    assert planner.cost([g.n_units // 2 for g in planner.prunable.groups]).macs < planner.dense.macs


def test_an_input_changed_in_place_stays_as_it_was():
    class InPlace(Whole):
        def forward(self, batch):
            batch["left"].sub_(0.5).div_(0.25)
            return super().forward(batch)

    inputs = {"left": IMAGES.clone(), "right": OTHERS}
    assert_halves(InPlace(), inputs, "a", "b")
    assert torch.equal(inputs["left"], IMAGES)


def test_images_of_several_sizes_come_as_a_list():
    class Detector(Siamese):
        def forward(self, images, targets=None):
            return torch.stack([self.join(image[None], image[None])[0] for image in images])

    images = [torch.randn(3, 9, 9), torch.randn(3, 8, 12)]
    assert_halves(Detector(), images, "a", "b")


def test_the_costs_of_several_inputs_are_those_of_one_sample():
    alone = Planner(Positional(), (IMAGES[:1], OTHERS[:1])).dense.macs
    assert Planner(Positional(), (IMAGES, OTHERS)).dense.macs == alone
    assert Planner(Whole(), {"left": IMAGES, "right": OTHERS}).dense.macs == alone


def test_first_sample_narrows_what_is_as_long_as_the_first_tensor():
    batch = {"images": IMAGES, "mask": torch.ones(6, 6), "labels": torch.arange(4), "n": 4}
    sample = first_sample(batch)
    shapes = [tuple(sample[key].shape) for key in ("images", "mask", "labels")]
    assert shapes == [(1, 3, 8, 8), (6, 6), (1,)]
    assert sample["n"] == 4


def test_the_form_is_found_by_running_where_the_signature_leaves_it_open():
    class Either(Siamese):
        def forward(self, left, right=None):
            return self.join(left, right)

    assert accepted_form(Either(), [IMAGES, OTHERS]) is Form.POSITIONAL
    assert accepted_form(Whole(), [IMAGES, OTHERS]) is Form.ONE


def test_a_network_that_takes_the_inputs_in_no_way_raises_its_own_error():
    with pytest.raises(RuntimeError, match="expected input"):
        call(Positional(), (IMAGES[:, :2], OTHERS))


def test_inputs_that_do_not_fit_are_described():
    with pytest.raises(ModelError, match=r"type tuple with tensors of shapes \(4, 2, 8, 8\), \("):
        ADMMPruner(Positional(), (IMAGES[:, :2], OTHERS), sparsity=0.5, rho=0.1)
    assert shapes_of("text") == "an example input of type str with no tensor"


def test_constant_inputs_are_made_random_in_the_proof():
    zeros = (torch.zeros_like(IMAGES), torch.zeros_like(IMAGES))
    pruner, _, _ = halved(Positional(), zeros)
    assert {"a", "b"} <= {group.name for group in pruner._constrained.groups}
