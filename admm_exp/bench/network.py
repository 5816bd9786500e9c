"""A network under constraint, as the rows train, update, cut and run it."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from admm_exp.admm.metrics import L2Norm
from admm_exp.models.cifar_resnet import resnet20
from admm_exp.models.torchvision_zoo import torchvision_model
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.cost.cost import count_cost
from admm_exp.training.memory_format import laid_out
from admm_exp.training.optimizer import build_optimizer

RHO, LR = 1e-3, 1e-3
CLASSES = {"resnet20": 10, "resnet18_32": 10, "resnet18": 200, "resnet50": 1000}


@dataclass(frozen=True)
class Subject:
    """A network that is to lose channels, and a batch to train it on.

    Args:
        name: As in titles, with image size and batch size.
        model: The network, in the layout that training gives it.
        constrained: The same network under its constraint.
        images: (B, C, H, W) on the device.
        labels: (B,) on the device.
    """

    name: str
    model: nn.Module
    constrained: ConstrainedModel
    images: Tensor
    labels: Tensor

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's forward pass."""
        return count_cost(self.model, self.images).macs

    @property
    def n_constrained(self) -> int:
        """Number of constrained scalars."""
        return sum(weight.numel() for weight in self.constrained.weights())

    def optimizer(self) -> Optimizer:
        """Build a fresh optimizer of the network."""
        return optimizer_of(self.model.parameters())


def optimizer_of(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build the optimizer that the rows train with."""
    return build_optimizer("sgd", parameters, LR, momentum=0.9, weight_decay=5e-4, nesterov=True)


def subject(
    name: str,
    size: int,
    batch_size: int,
    device: torch.device,
    *,
    sparsity: float = 0.5,
    channel_multiple: int = 1,
) -> Subject:
    """Build a network with random weights and a random batch.

    Args:
        name: One of `CLASSES`.
        size: Side of the images in pixels.
        batch_size: Samples in the batch.
        device: Where both are.
        sparsity: Fraction of the channels that the network is to lose.
        channel_multiple: What the kept channels of a group are rounded to a multiple of.
    """
    torch.manual_seed(0)
    model = _build(name).to(device)
    model = laid_out(model, device)
    images = torch.randn(batch_size, 3, size, size, device=device)
    labels = torch.randint(CLASSES[name], (batch_size,), device=device)
    constrained = ConstrainedModel(
        model,
        images[:1],
        sparsity=sparsity,
        metric=L2Norm(),
        rho=RHO,
        channel_multiple=channel_multiple,
    )
    return Subject(f"{name}, {size}x{size}, batch {batch_size}", model, constrained, images, labels)


def _build(name: str) -> nn.Module:
    if name == "resnet20":
        return resnet20(CLASSES[name])
    model = torchvision_model(name.removesuffix("_32"), CLASSES[name])
    if name.endswith("_32"):  # as ResNet-18 is trained on CIFAR
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model
