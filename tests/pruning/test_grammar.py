"""Random networks from a grammar: what is cut computes what was masked, or says why it is not."""

import pytest
import torch
from support.grammar import Random

from admm_exp.admm.metrics import L2Norm
from admm_exp.errors import ModelError
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.dependency.outputs import difference
from admm_exp.pruning.surgery.randomised import randomise_

FEW, MANY = range(30), range(30, 4030)
LEAST_PRUNED = 0.6
"""Fraction of the networks of which something is pruned: all others are refused."""


def complaint(seed: int) -> str | None:
    """Say what is wrong with the cut of a random network; None if it is right, or refused."""
    network = randomise_(Random(seed), seed).eval()
    try:
        constrained = ConstrainedModel(
            network, network.inputs, sparsity=0.5, metric=L2Norm(), rho=0.1
        )
    except ModelError as error:
        has_reason = ": " in str(error) and "cannot be followed (" not in str(error)
        return None if has_reason else f"refused without a reason: {error}"
    if nameless := [group.name for group in constrained.prunable.kept if not group.reason.strip()]:
        return f"{nameless} are kept for no reason"
    randomise_(network, seed + 1)  # other numbers than those that were proven
    constrained.update()
    masked = constrained.removal().masked().eval()
    small, _ = constrained.removal().finish(network.inputs)
    others = network.example(3, seed + 2)
    with torch.no_grad():
        apart = difference(masked(others), small.eval()(others)).relative
    small.train()(others).square().sum().backward()
    pruned.append(seed)
    return f"differs by {apart:.1e} of the outputs' spread" if not apart < 1e-4 else None


pruned: list[int] = []


def complaints(seeds: range) -> list[str]:
    """Check random networks; name the seeds and the steps of those that are cut wrong."""
    pruned.clear()
    found = []
    for seed in seeds:
        try:
            wrong = complaint(seed)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong is not None:
            found.append(f"seed {seed}: {wrong}; {Random(seed).story()}")
    assert len(pruned) >= LEAST_PRUNED * len(seeds)
    return found


def test_random_networks_are_cut_right() -> None:
    assert complaints(FEW) == []


@pytest.mark.slow
def test_thousands_of_random_networks_are_cut_right() -> None:
    assert complaints(MANY) == []
