import copy
import os
import threading
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from support.halves import assert_halves, gap, halved
from torch import nn
from torch.nn.utils import prune

from admm_exp.pruning.dependency.copying import copied

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.fc = nn.Linear(12, 4)

    def forward(self, images):
        return self.fc(F.relu(self.b(F.relu(self.a(images)))).mean((2, 3)))


class Keeps(Two):
    """Stores activations in itself, in a list and in a dict."""

    def __init__(self):
        super().__init__()
        self.all, self.by_name = [], {}

    def forward(self, images):
        self.features = F.relu(self.a(images))
        self.all.append(self.features)
        self.by_name["a"] = [self.features]
        return self.fc(F.relu(self.b(self.features)).mean((2, 3)))


class Recorder:
    """A hook that keeps what it saw, with the graph behind it."""

    seen = None

    def __call__(self, module, inputs, outputs):
        self.seen = outputs


def with_attribute(name, value):
    model = Two()
    setattr(model.a, name, value)
    return model


def second_changed(change):
    """Four convolutions, of which the second computes its weight."""
    widths = [3, 8, 12, 10, 4]
    layers = [nn.Conv2d(n, m, 1) for n, m in pairwise(widths)]
    layers[1] = change(layers[1]) or layers[1]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))


def hooked():
    model = Two()
    model.a.register_forward_hook(Recorder())
    return model


def hooked_by_a_closure():
    model, kept = Two(), []
    model.a.register_forward_hook(lambda module, inputs, outputs: kept.append(outputs))
    return model


def test_stored_activations_do_not_stop_the_cut():
    assert_halves(Keeps(), IMAGES, "a", "b")


@pytest.mark.parametrize("build", [hooked, hooked_by_a_closure])
def test_hooks_that_keep_tensors_do_not_stop_the_cut(build):
    assert_halves(build(), IMAGES, "a", "b")


@pytest.mark.parametrize(
    "change",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
        lambda layer: prune.ln_structured(layer, "weight", 0.3, 2, 0),
    ],
    ids=["weight_norm", "spectral_norm", "new weight_norm", "new spectral_norm", "l1", "ln"],
)
def test_layers_that_compute_their_weight_stay_whole_and_the_others_are_cut(change):
    assert_halves(second_changed(change), IMAGES, "4")


@pytest.mark.parametrize(
    "build",
    [
        threading.Lock,
        lambda: os.fdopen(os.dup(0), closefd=False),
        lambda: (i for i in range(3)),
        torch.Generator,
        lambda: {"nested": [threading.Lock(), (threading.Lock(),)]},
        threading.local,
        lambda: threading,
    ],
    ids=["lock", "file", "generator", "torch generator", "nested", "local", "module"],
)
def test_attributes_that_cannot_be_copied_are_shared(build):
    assert_halves(with_attribute("held", build()), IMAGES, "a", "b")


def test_a_part_beside_one_that_cannot_be_copied_is_copied():
    model = Two()
    model.held = [threading.Lock(), model.a]
    twin = copied(model)
    assert twin.held[0] is model.held[0]
    assert twin.held[1] is twin.a is not model.a
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    assert torch.equal(twin(IMAGES), model(IMAGES))


def test_copies_of_copies_are_independent():
    model = copy.deepcopy(copied(with_attribute("lock", threading.Lock())))
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.a.weight.zero_()
    assert again.a is not model.a
    assert not torch.equal(again(IMAGES), model(IMAGES))


def test_a_bound_hook_calls_the_copy():
    class Counts(Two):
        def __init__(self):
            super().__init__()
            self.n, self.lock = 0, threading.Lock()
            self.a.register_forward_hook(self.count)

        def count(self, *_):
            self.n += 1

    model = Counts()
    twin = copied(model)
    twin(IMAGES)
    assert (twin.n, model.n) == (1, 0)


def test_empty_containers_of_the_copy_are_its_own_and_shared_as_before():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].notes = model[1].notes = {}
    small = copied(model)
    small[0].notes["a"] = 1
    small[0].register_forward_hook(lambda *_: None)
    assert small[1].notes == {"a": 1}
    assert not model[0].notes
    assert not model[0]._forward_hooks
    assert not small[1]._forward_hooks


def test_shared_parameters_stay_shared_in_the_copy():
    model = with_attribute("lock", threading.Lock())
    model.again = model.b
    model.fc.extra = model.a.weight
    twin = copied(model)
    assert twin.again is twin.b
    assert twin.fc.extra is twin.a.weight


@pytest.mark.parametrize(
    "buffer",
    [
        lambda: torch.ones(5).expand(4, 5),
        lambda: torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")[0],
        lambda: torch.arange(12.0).unfold(0, 4, 2),
        lambda: torch.full((3,), torch.nan).expand(2, 3),
        lambda: torch.empty(0),
    ],
    ids=["expanded", "meshgrid", "overlapping windows", "NaN", "empty"],
)
def test_buffers_may_share_memory(buffer):
    model = Two()
    model.register_buffer("held", buffer())
    assert_halves(model, IMAGES, "a", "b")


@pytest.mark.parametrize("order", [("whole", "part", "again"), ("part", "again", "whole")])
def test_buffers_of_one_memory_share_one_in_the_copy(order):
    whole = torch.arange(6.0)
    tensors = {"whole": whole, "part": whole[2:], "again": whole.view(2, 3)}
    model = Two()
    for name in order:
        model.register_buffer(name, tensors[name])
    twin = copied(model)
    twin.part.zero_()
    assert twin.whole.tolist() == [0, 1, 0, 0, 0, 0]
    assert twin.again.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert whole.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_attribute_that_is_a_view_of_a_buffer_is_one_in_the_copy():
    model = Two()
    model.register_buffer("whole", torch.arange(4.0))
    model.first = model.whole[:1]
    twin = copied(model)
    twin.whole.fill_(5.0)
    assert twin.first.tolist() == [5.0]
    assert model.first.tolist() == [0.0]


class Says(nn.Linear):
    def __getstate__(self):
        return {**super().__getstate__(), "extra": {"width": self.in_features}}


class ItsOwn(nn.Linear):
    def __deepcopy__(self, memo):
        return type(self)(1, 1)


@pytest.mark.parametrize("kind", [Says, ItsOwn])
def test_layers_that_say_how_they_are_copied_are_copied_so(kind):
    model = nn.Sequential(kind(2, 3), kind(3, 4), kind(4, 5))
    for layer, expected in zip(copied(model), copy.deepcopy(model), strict=True):
        assert layer.weight.shape == expected.weight.shape
        assert getattr(layer, "extra", None) == getattr(expected, "extra", None)


def test_what_tensors_and_tuples_hold_is_copied():
    model = Two()
    model.register_buffer("table", torch.ones(3))
    model.table.notes = model.pair = (["a"], model.a)
    twin = copied(model)
    assert twin.table.notes is twin.pair
    assert twin.pair[1] is twin.a
    assert twin.pair[0] == ["a"]
    assert twin.pair[0] is not model.pair[0]


def test_buffers_made_in_inference_mode_do_not_stop_the_cut():
    class Scaled(Two):
        def __init__(self):
            super().__init__()
            with torch.inference_mode():
                self.register_buffer("scale", torch.tensor([0.5]))

        def forward(self, images):
            return super().forward(images * self.scale)

    assert_halves(Scaled(), IMAGES, "a", "b")


def test_a_buffer_that_the_network_replaces_is_put_back():
    class Counts(Two):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))
            self.register_buffer("last", torch.zeros(0))

        def forward(self, images):
            self.calls += 1
            self.last = images.mean((2, 3))
            return super().forward(images)

    model = Counts()
    _, masked, small = halved(model, IMAGES)
    assert gap(masked, small, IMAGES) < 1e-4
    assert float(model.calls) == 1.0  # the one step of training
