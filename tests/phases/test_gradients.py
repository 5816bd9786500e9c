from dataclasses import replace

import pytest
import torch
from support.toy import batches, functions_of, is_same, mlp, train_fn, weights_of
from torch import nn

from admm_exp.admm.metrics import L2Norm
from admm_exp.admm.taylor import Taylor
from admm_exp.errors import TrainingError
from admm_exp.phases.gradients import learn_gradients
from admm_exp.pruning.constrained import ConstrainedModel


def constrained_mlp(metric):
    return ConstrainedModel(mlp(), torch.randn(2, 6), sparsity=0.5, metric=metric, rho=1.0)


def test_scores_are_those_of_gradients_computed_apart():
    constrained = constrained_mlp(Taylor(batches=3))
    before = weights_of(constrained.model)
    learn_gradients(constrained, functions_of())
    first, expected = constrained.model[0], 0.0
    for x, y in batches()[:3]:
        loss = nn.functional.cross_entropy(constrained.model(x), y)
        dw, db = torch.autograd.grad(loss, [first.weight, first.bias])
        expected = expected + torch.cat([dw.abs(), db.abs().unsqueeze(1)], 1) / 3
    theta = torch.cat([first.weight, first.bias.unsqueeze(1)], 1)
    scores = (theta.abs() * expected).sum(1)
    kept = constrained.state.support[0]
    assert set(kept.nonzero().flatten().tolist()) == set(scores.topk(3).indices.tolist())
    assert is_same(weights_of(constrained.model), before)


def test_random_numbers_go_on_as_if_nothing_had_happened():
    constrained = constrained_mlp(Taylor(batches=1))
    torch.manual_seed(5)

    def drawing(model, optimizer, epoch):
        torch.rand(7)
        train_fn(model, optimizer, epoch)

    learn_gradients(constrained, replace(functions_of(), train_fn=drawing))
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_metric_that_asks_for_none_is_left_alone():
    def never(model, optimizer, epoch):
        raise AssertionError

    learn_gradients(constrained_mlp(L2Norm()), replace(functions_of(), train_fn=never))


def test_train_function_that_never_steps_is_an_error():
    functions = replace(functions_of(), train_fn=lambda model, optimizer, epoch: None)
    with pytest.raises(TrainingError, match="never stepped the optimizer"):
        learn_gradients(constrained_mlp(Taylor(batches=1)), functions)


class Spying(Taylor):
    """Notes what it learns."""

    def learn(self, gradients):
        self.learned = gradients
        super().learn(gradients)


def test_the_metric_learns_the_mean_over_the_steps_not_the_sum():
    def one_batch_again(model, optimizer, epoch):
        x, y = batches()[0]
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    once, thrice = Spying(batches=1), Spying(batches=3)
    for metric in (once, thrice):
        functions = replace(functions_of(), train_fn=one_batch_again)
        learn_gradients(constrained_mlp(metric), functions)
    torch.testing.assert_close(once.learned, thrice.learned)


def test_no_more_batches_are_trained_than_the_metric_asks_for():
    begun = []

    def noting(model, optimizer, epoch):
        for x, y in batches():
            begun.append(x)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    learn_gradients(constrained_mlp(Taylor(batches=2)), replace(functions_of(), train_fn=noting))
    assert len(begun) == 2
