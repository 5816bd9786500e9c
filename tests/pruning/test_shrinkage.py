import pytest
import torch

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.metrics import L2Norm
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.pruning.shrinkage import shrink_, shrinking, threshold_norms

# Two units: rows of the first weight, columns {0, 1} and {2, 3} of the second.
GROUP = ChannelGroup(
    "g", 2, 1, (Member(0, 0), Member(1, 1, torch.tensor([[0, 1], [2, 3]]))), position=0
)


def weights_of():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 3, generator=generator), torch.randn(5, 4, generator=generator)]


def units_of(weights):
    first, second = weights
    pairs = zip(first, second.T.reshape(2, 2, 5), strict=True)
    return [torch.cat([rows, columns.flatten()]) for rows, columns in pairs]


def test_step_solves_the_proximal_problem():
    """min_x amount * ||x|| + 1/2 ||x - theta||^2, by gradient descent in float64."""
    weights = weights_of()
    thetas = [u.double() for u in units_of(weights)]
    shrink_(weights, (GROUP,), (0.7,))
    for theta, got in zip(thetas, units_of(weights), strict=True):
        x = theta.clone().requires_grad_()
        optimizer = torch.optim.SGD([x], 0.1)
        for _ in range(500):
            optimizer.zero_grad()
            (0.7 * x.norm() + 0.5 * (x - theta).square().sum()).backward()
            optimizer.step()
        assert torch.allclose(got.double(), x.detach(), atol=1e-5)


def test_every_unit_loses_the_amount_of_its_norm():
    weights = weights_of()
    before = torch.stack([u.norm() for u in units_of(weights)])
    shrink_(weights, (GROUP,), (0.5,))
    after = torch.stack([u.norm() for u in units_of(weights)])
    assert torch.allclose(after, before - 0.5, atol=1e-6)


def test_units_weaker_than_the_amount_are_exactly_zero_and_zero_stays_zero():
    weights = weights_of()
    weights[0][0], weights[1][:, :2] = 0.1, 0.0  # norm 0.17
    shrink_(weights, (GROUP,), (0.2,))
    shrink_(weights, (GROUP,), (0.0,))
    first, second = units_of(weights)
    assert not first.any()
    assert second.isfinite().all()
    assert second.any()


@pytest.mark.parametrize(("n_kept", "rank"), [(1, 0), (2, None)])
def test_threshold_is_the_norm_of_the_strongest_unit_to_be_removed(n_kept, rank):
    group = ChannelGroup("g", 2, n_kept, GROUP.members)
    norms = sorted(float(u.norm()) for u in units_of(weights_of()))
    expected = 0.0 if rank is None else norms[rank]
    assert threshold_norms(weights_of(), (group,)) == pytest.approx([expected])


def test_step_that_a_fused_optimizer_leaves_out_shrinks_nothing():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
    constrained = ConstrainedModel(model, torch.randn(1, 4), sparsity=0.5, metric=L2Norm(), rho=1.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    with shrinking(optimizer, constrained, [0.5] * len(constrained.groups)):
        for overflows in (True, False):
            before = model[0].weight.detach().clone()
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(3, 4)).square().mean()).backward()
            if overflows:
                model[1].bias.grad[0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            assert torch.equal(model[0].weight, before) == overflows
