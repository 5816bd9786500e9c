import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.export.saved_model import load, save_model
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import STRUCTURE

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Parts(nn.Module):
    """Two parts whose sizes the network's own code remembers."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.first, self.second = kind, 4, 8
        self.sizes, self.listed = (4, 8), [4, 8]
        self.a, self.p, self.q = nn.Conv2d(3, 12, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(8, 6, 1)

    def forward(self, images):
        sizes = (self.first, self.second) if self.kind == "integers" else getattr(self, self.kind)
        first, second = F.relu(self.a(images)).split(sizes, 1)
        return self.p(first) + self.q(second)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("integers", {"first": 2, "second": 4}),
        ("sizes", {"sizes": [2, 4]}),
        ("listed", {"listed": [2, 4]}),
    ],
)
def test_sizes_that_the_code_remembers_are_saved_and_loaded(tmp_path, kind, attributes):
    dense = Parts(kind)
    constrained = ConstrainedModel(dense, IMAGES, sparsity=0.5, metric=L2Norm(), rho=1.0)
    small, _ = constrained.removal().finish(IMAGES)
    save_model(small, dense, {"_target_": "mine.Parts"}, IMAGES, tmp_path)
    assert json.loads((tmp_path / STRUCTURE).read_text())["attributes"][""] == attributes
    loaded = load(tmp_path, model=Parts(kind))
    assert torch.equal(loaded.eval()(IMAGES), small.eval()(IMAGES))
    assert type(getattr(loaded, kind, ())) is type(getattr(dense, kind, ()))
