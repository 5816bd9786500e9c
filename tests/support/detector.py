"""A tiny detector of torchvision's, whose images and targets lie in lists and mappings."""

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from admm_exp.data.dataset import Dataset
from admm_exp.data.iterable import iterable_dataset

SIDE = 32


class Backbone(nn.Module):
    """Two maps of one width."""

    out_channels = 12

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 12, 3, 2, 1)
        self.third = nn.Conv2d(12, 12, 3, 2, 1)

    def forward(self, x):
        fine = self.second(self.norm(self.first(x)).relu())
        return {"0": fine, "1": self.third(fine.relu())}


def detector() -> nn.Module:
    """Faster R-CNN with heads of its own for boxes of two classes and the background."""
    return FasterRCNN(
        Backbone(),
        min_size=SIDE,
        max_size=SIDE,
        rpn_anchor_generator=AnchorGenerator(((8,), (16,)), ((1.0,), (1.0,))),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 3, 2),
        box_head=TwoMLPHead(12 * 9, 16),
        box_predictor=FastRCNNPredictor(16, 3),
        rpn_pre_nms_top_n_test=40,
        rpn_post_nms_top_n_test=20,
        box_detections_per_img=5,
        box_batch_size_per_image=16,
    )


def whole_detector() -> nn.Module:
    """A detector of torchvision's as it is, for small images, which guesses boxes untrained."""
    return fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        trainable_backbone_layers=6,
        num_classes=3,
        min_size=2 * SIDE,
        max_size=2 * SIDE,
        box_score_thresh=0.0,
        box_detections_per_img=5,
    )


def boxes(batch_size: int = 2) -> Dataset:
    """Images of two sizes, each with a bright square, and where it is."""
    generator = torch.Generator().manual_seed(0)

    def batch(n):
        images, targets = [], []
        for i in range(n):
            image = 0.1 * torch.rand(3, SIDE, SIDE - 4 * (i % 2), generator=generator)
            left, top = torch.randint(4, 12, (2,), generator=generator).tolist()
            image[:, top : top + 12, left : left + 12] += 0.8
            corners = torch.tensor([[left, top, left + 12.0, top + 12.0]])
            images.append(image)
            targets.append({"boxes": corners, "labels": torch.ones(1, dtype=torch.int64)})
        return images, targets

    train, val, test = ([batch(batch_size) for _ in range(n)] for n in (4, 2, 2))
    return iterable_dataset(name="boxes", train=train, val=val, test=test)


def train(model, optimizer, epoch, batches):
    """Train one epoch on the sum of the detector's own losses."""
    model.train()
    for images, targets in batches:
        optimizer.zero_grad()
        loss = sum(model(images, targets).values())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return loss.item()


@torch.no_grad()
def score(model, batches):
    """Fraction of the images in which something is found, in [0, 1]."""
    model.eval()
    found = [len(result["boxes"]) > 0 for images, _ in batches for result in model(images)]
    return sum(found) / len(found)
