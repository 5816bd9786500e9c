"""Trial steps: which optimizers follow their gradients, torch's and anybody's."""

import copy

import pytest
import torch
from torch import nn

from admm_exp.training.step_length import follows_gradients

LR = 0.1


class Lion(torch.optim.Optimizer):
    """Steps by the sign of a running mean; its group looks like that of SGD."""

    def __init__(self, params, lr=LR, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                p.data.add_(mean.sign(), alpha=-group["lr"])


class Lars(torch.optim.SGD):
    """SGD by inheritance, but every step is as long as the weight says."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(p.data.norm() / p.grad.norm())
        return super().step(closure)


class PlainSteps(torch.optim.Optimizer):
    """Gradient descent of somebody's own, with an attribute of its own."""

    def __init__(self, params, lr=LR):
        super().__init__(params, {"lr": lr})
        self.scale = 2.0

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-self.scale * group["lr"])


def weight():
    return nn.Parameter(torch.ones(3, 3))


@pytest.mark.parametrize(
    "kind",
    [
        *(torch.optim.Adam, torch.optim.AdamW, torch.optim.RAdam, torch.optim.NAdam),
        *(torch.optim.Adamax, torch.optim.Adadelta, torch.optim.Adagrad, torch.optim.RMSprop),
        *(torch.optim.Rprop, Lion, Lars),
    ],
)
def test_optimizers_that_rescale_gradients_are_found_by_their_steps(kind):
    assert follows_gradients(kind([weight()], lr=LR)) is False


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (torch.optim.SGD, {"maximize": True}),
        (torch.optim.ASGD, {}),
        (PlainSteps, {}),
    ],
)
def test_optimizers_whose_steps_grow_with_the_gradient_follow_it(kind, settings):
    assert follows_gradients(kind([weight()], lr=LR, **settings)) is True


def test_a_learning_rate_of_0_is_no_hindrance():
    assert follows_gradients(torch.optim.SGD([weight()], lr=0.0)) is True


def test_an_optimizer_that_needs_a_closure_cannot_be_tried():
    assert follows_gradients(torch.optim.LBFGS([weight()])) is None


def test_a_trial_leaves_optimizer_and_weights_as_they_were_and_runs_no_hook():
    p = weight()
    p.grad = torch.full_like(p, 0.5)
    optimizer = torch.optim.AdamW([p], lr=LR)
    optimizer.step()
    before, state = p.detach().clone(), copy.deepcopy(optimizer.state_dict())
    optimizer.register_step_pre_hook(lambda *_: pytest.fail("a hook ran"))
    follows_gradients(optimizer)
    assert torch.equal(p, before)
    assert torch.equal(p.grad, torch.full_like(p, 0.5))
    assert str(optimizer.state_dict()) == str(state)
