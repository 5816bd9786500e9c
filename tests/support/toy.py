"""A network that trains in milliseconds, its data, and the functions of a phase."""

import torch
import torch.nn.functional as F
from torch import nn

from admm_exp.phases.functions import TrainingFunctions
from admm_exp.results import History

CLASSES = 3


def mlp(seed=0):
    """Build 6 -> 5 -> 3; its five hidden units are its one prunable group."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES))


class Heads(nn.Module):
    """Three tokens of 2, attention of four heads of 2, and the classes; no norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.attention = nn.Linear(2, 8), nn.MultiheadAttention(8, 4, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        tokens = self.stem(x.view(-1, 3, 2))
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def batches(n=4):
    generator = torch.Generator().manual_seed(7)
    teacher = torch.randn(6, CLASSES, generator=generator)
    inputs = torch.randn(n, 16, 6, generator=generator)
    return [(x, (x @ teacher).argmax(dim=1)) for x in inputs]


def train_fn(model, optimizer, epoch):
    for x, y in batches():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def accuracy_of(model):
    with torch.no_grad():
        hits = [model(x).argmax(dim=1) == y for x, y in batches()]
    return torch.cat(hits).float().mean()


def sgd(parameters, lr):
    return torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=1e-3)


def functions_of(observer=None, **functions):
    defaults = {"train_fn": train_fn, "validate_fn": accuracy_of, "optimizer_fn": sgd}
    return TrainingFunctions(
        **(defaults | functions), observer=History() if observer is None else observer
    )


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def is_same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
