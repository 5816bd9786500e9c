"""Prune half of a network with one ADMM iteration, and compare masked with cut."""

import copy

import torch

from admm_exp import ADMMPruner
from admm_exp.pruning.dependency.inputs import call
from admm_exp.pruning.dependency.structures import tensors_in


def numbers(outputs):
    """List the floating-point tensors among outputs."""
    return [t for t in tensors_in(outputs) if t.is_floating_point() and t.numel()]


def halved(model, inputs, **settings):
    """Train a step under the penalty, update and cut.

    Returns:
        The pruner, the masked network and the small one, both in evaluation mode.
    """
    pruner = ADMMPruner(model, inputs, sparsity=0.5, rho=0.1, **settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with pruner.penalty(optimizer):
        sum(t.square().mean() for t in numbers(call(model, inputs))).backward()
        optimizer.step()
    pruner.update()
    masked, small = pruner._constrained.removal().masked().eval(), pruner.finalize().eval()
    return pruner, masked, small


def prunable(pruner):
    """Names of the groups that are pruned."""
    return {group.name for group in pruner._constrained.groups}


def gap(masked, small, inputs):
    """Largest difference between two networks, relative to the spread of the outputs."""
    with torch.no_grad():
        pairs = zip(numbers(call(masked, inputs)), numbers(call(small, inputs)), strict=True)
        return max(float((a - b).abs().max() / a.std().clamp_min(1e-9)) for a, b in pairs)


def assert_halves(model, inputs, *groups, **settings):
    """Assert that these groups are pruned, nothing is lost, and the small network trains on."""
    pruner, masked, small = halved(model, inputs, **settings)
    assert set(groups) <= prunable(pruner), pruner._constrained.prunable.kept
    again = copy.deepcopy(small)
    assert gap(masked, again, inputs) < 1e-4
    sum(t.square().mean() for t in numbers(call(small.train(), inputs))).backward()
    return small
