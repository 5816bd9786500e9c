"""Channels through regions of images, and a whole detector whose outputs are lists of boxes."""

import pytest
import torch
from support import detector
from torch import nn
from torchvision.ops import roi_align, roi_pool

from admm_exp import ADMMPruner
from admm_exp.pruning.surgery.find import find_groups

X = torch.randn(2, 3, 16, 16)
BOXES = [torch.tensor([[0.0, 0.0, 8.0, 8.0], [2.0, 2.0, 12.0, 10.0]])] * 2


class Regions(nn.Module):
    def __init__(self, take):
        super().__init__()
        self.a, self.b, self.fc, self.take = *(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)), None, take
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.take(self.b(self.a(x).relu())).amax((2, 3)))


def written(y):
    """As pooling over several maps: the regions of every map are written into one tensor."""
    result = torch.zeros(4, y.shape[1], 2, 2)
    for level, scale in enumerate((1.0, 0.5)):
        rows = torch.where(torch.arange(4) % 2 == level)[0]
        result[rows] = roi_align(y, BOXES, (2, 2), scale)[rows]
    return result


def written_over_ones(y):
    result = torch.ones(4, y.shape[1], 2, 2)
    result[torch.arange(2)] = roi_align(y, BOXES, (2, 2))[:2]
    return result


@pytest.mark.parametrize(
    "take",
    [lambda y: roi_align(y, BOXES, (2, 2)), lambda y: roi_pool(y, BOXES, (2, 2)), written],
    ids=["roi_align", "roi_pool", "written"],
)
def test_regions_of_images_keep_their_channels(take) -> None:
    assert {group.name for group in find_groups(Regions(take), X).groups} == {"a", "b"}


def test_channels_written_over_ones_stay() -> None:
    found = find_groups(Regions(written_over_ones), X)
    (reason,) = [group.reason for group in found.kept if group.name == "b"]
    assert "what is written in the Regions" in reason


def test_a_detector_trains_with_its_targets_and_is_cut() -> None:
    torch.manual_seed(0)
    dataset, network = detector.boxes(), detector.detector()
    images, _ = next(iter(dataset.val))
    pruner = ADMMPruner(
        network,
        images,
        train_fn=lambda *given: detector.train(*given, dataset.train),
        validate_fn=lambda model: detector.score(model, dataset.val),
        sparsity=0.5,
        rho=0.1,
    )
    result = pruner.prune(1, 1, 1e-3, finetune_epochs=1, finetune_lr=1e-3)
    assert result.model.backbone.first.out_channels == 4
    assert result.model.backbone.second.out_channels == 6
    assert result.model.roi_heads.box_head.fc6.out_features == 8
    assert set(result.model.eval()(images)[0]) == {"boxes", "labels", "scores"}
