import pytest
import torch
from support.halves import assert_halves
from torch import nn

from admm_exp.errors import ModelError
from admm_exp.pruning.budget.planner import Planner
from admm_exp.pruning.surgery.find import find_groups

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def chain():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten())


def lazy():
    return nn.Sequential(
        nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)
    )


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.token, self.fc = nn.Parameter(torch.zeros(1, 1, 16)), nn.Linear(16, 5)
        self.inner = Inner()

    def forward(self, images):
        features = self.b(torch.relu(self.a(images)))
        token = self.token.expand(len(images), -1, -1)
        return self.fc(self.inner((features, token)).mean((2, 3)))


class Inner(nn.Module):
    def forward(self, pair):
        return pair[0] + pair[1].mean(1)[:, :, None, None]


def test_lazy_layers_take_their_sizes_from_the_example():
    assert_halves(lazy(), IMAGES, "0")


def test_a_lazy_layer_out_of_reach_is_named():
    model = lazy()
    model.other = nn.ModuleDict({"aside": nn.LazyLinear(3)})
    model.forward = model[:5].forward
    with pytest.raises(ModelError, match=r"other\.aside\.weight is lazy and the example input"):
        find_groups(model, IMAGES)


def test_lazy_layers_on_a_wrong_example_say_so():
    with pytest.raises(ModelError, match=r"does not accept an example input of shape \(4, 7\)"):
        find_groups(lazy(), torch.randn(4, 7))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (torch.jit.script, "scripted"),
        (lambda model: torch.jit.trace(model, IMAGES), "traced"),
        (lambda model: nn.Sequential(torch.jit.script(model)), "its layer 0 is scripted"),
        (torch.compile, r"compiled \(torch.compile\)"),
        (nn.DataParallel, "wrapped in DataParallel"),
    ],
    ids=["scripted", "traced", "scripted inside", "compiled", "wrapped"],
)
def test_what_is_no_plain_network_any_more_is_called_that(change, kind):
    with pytest.raises(ModelError, match=kind):
        find_groups(change(chain()), IMAGES)


def test_parameters_made_in_inference_mode_are_refused_before_training():
    with torch.inference_mode():
        model = chain()
    with pytest.raises(ModelError, match=r"0\.weight was made in torch\.inference_mode"):
        find_groups(model, IMAGES)


def test_the_costs_of_an_expanded_parameter_are_counted():
    planner = Planner(Pooled(), torch.randn(1, 3, 16, 16))
    assert planner.dense.macs == 3 * 16 * 9 * 14**2 + 16 * 16 * 9 * 12**2 + 16 * 5


def test_a_shared_parameter_is_counted_once_and_asks_for_its_gradient_as_before():
    model = Pooled()
    model.again = model.a
    planner = Planner(model, IMAGES)
    assert planner.dense.params == sum(p.numel() for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())
