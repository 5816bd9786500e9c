"""Learning from a trained network's outputs beside the labels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Distillation:
    """A loss that pulls a network's outputs towards those of a teacher.

        (1 - weight) * CE(s, y) + weight * T^2 * KL(softmax(t / T) || softmax(s / T))

    with the student's logits s, the teacher's t, and labels y; T^2 keeps the size of the gradient.

    Args:
        teacher: The trained network, on the student's device; put into evaluation mode.
        weight: Share of the teacher in the loss, in [0, 1].
        temperature: T > 0; a high one shows how the teacher ranks the wrong classes.

    References:
        Hinton et al. 2015, arXiv 1503.02531, section 2.
    """

    def __init__(self, teacher: nn.Module, weight: float, temperature: float) -> None:
        self.teacher = teacher.eval()
        self.weight = weight
        self.temperature = temperature

    def __call__(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            logits: (B, classes) of the student.
            labels: (B,) int64.
            images: (B, ...), what the student saw.
        """
        with torch.no_grad():
            soft = F.log_softmax(self.teacher(images) / self.temperature, dim=1)
        own = F.log_softmax(logits / self.temperature, dim=1)
        divergence = F.kl_div(own, soft, reduction="batchmean", log_target=True)
        taught = self.temperature**2 * divergence
        return (1.0 - self.weight) * F.cross_entropy(logits, labels) + self.weight * taught
