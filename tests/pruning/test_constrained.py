import copy

import pytest
import torch
import torch.nn.functional as F
from support.networks import build, randomise_
from torch import nn

from admm_exp.admm.bn_scale import BNScale
from admm_exp.admm.groups import count_kept
from admm_exp.admm.metrics import L2Norm, Random
from admm_exp.admm.state import split
from admm_exp.errors import ConfigError, ModelError, SurgeryError
from admm_exp.pruning.constrained import ConstrainedModel


def constrain(name, *, sparsity=0.5, metric=None, rho=1.0, by_layer=None):
    model, inputs = build(name)
    metric = metric or L2Norm()
    return ConstrainedModel(
        model, inputs, sparsity=sparsity, metric=metric, rho=rho, by_layer=by_layer
    ), inputs


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def is_same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_support_starts_at_the_joint_norm_of_all_members():
    constrained, _ = constrain("residual")
    model = constrained.model
    squares = torch.zeros(8)
    for conv, norm in ((model.stem[0], model.stem[1]), (model.same[3], model.same[4])):
        squares += conv.weight.detach().square().sum((1, 2, 3))
        squares += norm.weight.detach().square() + norm.bias.detach().square()
    best = squares.argsort(descending=True)[:4]
    support = constrained.state.support[0]
    assert set(support.nonzero().flatten().tolist()) == set(best.tolist())


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("name", ["residual", "grouped", "flatten_norm", "dense_block_with_input"])
def test_support_keeps_the_count_of_every_group(name, sparsity):
    constrained, _ = constrain(name, sparsity=sparsity)
    for group, kept in zip(constrained.groups, constrained.state.support, strict=True):
        assert int(kept.sum()) == count_kept(group.n_units, sparsity, group.n_blocks)
        per_block = kept.view(group.n_blocks, -1).sum(1)
        assert per_block.unique().numel() == 1


def test_rates_reach_their_groups():
    constrained, inputs = constrain("residual", by_layer={"same.3": 0.25, "wider.0": 0.0})
    kept = {
        g.name: int(k.sum())
        for g, k in zip(constrained.groups, constrained.state.support, strict=True)
    }
    assert kept == {"stem.0": 6, "same.0": 3, "wider.0": 6, "wider.3": 6}
    small, _ = constrained.removal().finish(inputs)
    assert (small.stem[0].out_channels, small.wider[0].out_channels) == (6, 6)


def test_weights_are_views_of_the_parameters_without_gradient():
    constrained, _ = constrain("dense_block_with_input")
    for part, weight in zip(constrained.slices, constrained.weights(), strict=True):
        parameter = constrained.model.get_parameter(part.parameter)
        assert weight.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()
        assert not weight.requires_grad
        assert weight.shape[part.dim] == part.length


def test_construction_leaves_the_model_as_it_was():
    model, inputs = build("residual")
    model.train()
    before = snapshot(model)
    ConstrainedModel(model, inputs, sparsity=0.5, metric=L2Norm(), rho=1.0)
    assert is_same(model.state_dict(), before)
    assert all(module.training for module in model.modules())


def test_cut_follows_the_support_of_z_and_not_the_weights_of_the_moment():
    constrained, inputs = constrain("plain_chain")
    constrained.update()
    kept = constrained.state.support[0].clone()
    with torch.no_grad():  # the weights now rank the other way round
        constrained.model[0].weight[~kept] *= 100.0
        constrained.model[1].weight[kept] *= 0.01
    small, _ = constrained.removal().finish(inputs)
    assert torch.equal(small[0].weight, constrained.model[0].weight[kept])
    assert torch.equal(constrained.state.support[0], kept)


def test_update_may_change_the_support_that_is_cut():
    constrained, inputs = constrain("plain_chain")
    kept = constrained.state.support[0].clone()
    with torch.no_grad():
        constrained.model[0].weight[~kept] *= 100.0
    constrained.update()
    small, _ = constrained.removal().finish(inputs)
    assert torch.equal(small[0].weight, constrained.model[0].weight[~kept])


def test_masked_copy_is_zero_outside_the_support_and_equal_inside():
    constrained, _ = constrain("residual")
    before = snapshot(constrained.model)
    masked = constrained.removal().masked()
    kept = constrained.state.support[0]
    for layer in ("stem.0", "stem.1", "same.3", "same.4"):
        weight = masked.get_submodule(layer).weight
        assert weight[~kept].count_nonzero() == 0
        assert torch.equal(weight[kept], constrained.model.get_submodule(layer).weight[kept])
    assert masked.stem[1].bias[~kept].count_nonzero() == 0
    assert is_same(constrained.model.state_dict(), before)


def test_masked_copy_of_a_partly_constrained_norm_keeps_the_rest():
    constrained, _ = constrain("dense_block_with_input", metric=Random(0))
    masked, model = constrained.removal().masked(), constrained.model
    kept = torch.cat([torch.ones(3, dtype=torch.bool), *constrained.state.support])
    assert torch.equal(masked.norm.weight, model.norm.weight * kept)
    assert torch.equal(masked.norm.bias, model.norm.bias * kept)


def test_cut_returns_the_difference_that_was_measured():
    constrained, inputs = constrain("residual")
    small, difference = constrained.removal().finish(inputs)
    with torch.no_grad():
        expected = (constrained.removal().masked()(inputs) - small(inputs)).abs().max()
    assert difference == float(expected) < 1e-5


def test_cut_leaves_model_and_state_as_they_were():
    constrained, inputs = constrain("depthwise")
    constrained.model.train()
    before, state = snapshot(constrained.model), copy.deepcopy(constrained.state)
    small, _ = constrained.removal().finish(inputs)
    assert is_same(constrained.model.state_dict(), before)
    assert all(m.training for m in constrained.model.modules())
    assert all(m.training for m in small.modules())
    pairs = zip(constrained.state.targets, state.targets, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_cut_shares_no_memory_with_the_model():
    constrained, inputs = constrain("residual", by_layer={"same.0": 0.0})
    small, _ = constrained.removal().finish(inputs)
    before = snapshot(constrained.model)
    with torch.no_grad():
        for tensor in small.state_dict().values():
            tensor.fill_(7)
    assert is_same(constrained.model.state_dict(), before)


def test_cut_of_a_function_that_is_not_zero_at_zero_is_refused():
    model = randomise_(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)))
    inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    constrained = ConstrainedModel(model, inputs, sparsity=0.5, metric=L2Norm(), rho=1.0)
    model[1] = nn.Sigmoid()
    sentence = r"differs from the masked one by 0\.\d+, .*: a removed channel was not zero"
    with pytest.raises(SurgeryError, match=sentence):
        constrained.removal().finish(inputs)


def test_changing_rho_keeps_the_unscaled_dual():
    constrained, _ = constrain("residual", rho=0.5)
    with torch.no_grad():
        constrained.model.stem[0].weight.add_(0.1)
    constrained.update()
    _, before = split(constrained.state, constrained.constraint)
    constrained.rho = 2.0
    _, after = split(constrained.state, constrained.constraint)
    assert constrained.rho == 2.0
    assert max(float(u.abs().max()) for u in before) > 0.1
    for u, v in zip(before, after, strict=True):
        torch.testing.assert_close(0.5 * u, 2.0 * v)


@pytest.mark.parametrize("name", ["dense_block_with_input", "grouped", "transposed"])
def test_penalty_pulls_the_removed_units_to_zero(name):
    constrained, inputs = constrain(name, rho=1.0)
    optimizer = torch.optim.SGD(constrained.model.parameters(), lr=0.5)
    with constrained.penalty(optimizer):
        for _ in range(40):
            optimizer.zero_grad()
            (0.0 * constrained.model(inputs)).sum().backward()
            optimizer.step()
    masks = constrained.constraint.masks(constrained.state.targets, constrained.state.support)
    for weight, mask in zip(constrained.weights(), masks, strict=True):
        assert float((weight * ~mask).abs().max()) < 1e-6
        assert float((weight * mask).abs().max()) > 1e-2
    small, _ = constrained.removal().finish(inputs)
    with torch.no_grad():
        torch.testing.assert_close(small(inputs), constrained.model(inputs), atol=1e-4, rtol=0)


def test_cut_network_can_be_trained_further():
    constrained, inputs = constrain("residual")
    small, _ = constrained.removal().finish(inputs)
    labels = torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(small.train().parameters(), lr=0.2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(small(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_cut_network_can_be_constrained_and_cut_again():
    constrained, inputs = constrain("grouped", sparsity=0.5)
    small, _ = constrained.removal().finish(inputs)
    again = ConstrainedModel(small, inputs, sparsity=0.5, metric=L2Norm(), rho=1.0)
    smaller, _ = again.removal().finish(inputs)
    assert [m.out_channels for m in smaller if isinstance(m, nn.Conv2d)] == [4, 6, 5]


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan")])
def test_rho_has_to_be_positive(rho):
    with pytest.raises(ValueError, match="rho must be greater than 0"):
        constrain("mlp", rho=rho)


def test_wrong_example_and_unknown_layer_are_refused():
    model, _ = build("mlp")
    options = {"sparsity": 0.5, "metric": L2Norm(), "rho": 1.0}
    with pytest.raises(ModelError, match="does not accept"):
        ConstrainedModel(model, torch.randn(2, 7), **options)
    with pytest.raises(ConfigError, match="unknown layer 'fc'"):
        ConstrainedModel(model, torch.randn(2, 6), **options, by_layer={"fc": 0.1})


def test_scales_of_norms_are_found_in_the_unit_matrix():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )
    nn.init.uniform_(model[1].weight)
    constrained = ConstrainedModel(
        model, torch.randn(2, 1, 4, 4), sparsity=0.5, metric=BNScale(), rho=1.0
    )
    (theta,) = constrained.constraint.unit_matrices(constrained.weights())
    columns = list(constrained.channel_groups[0].scale_columns)
    assert torch.equal(theta[:, columns].flatten(), model[1].weight)
    weakest = model[1].weight.topk(2, largest=False).indices
    assert not constrained.state.support[0][weakest].any()


def test_metric_of_norm_scales_is_refused_where_a_group_has_none():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(ConfigError, match=r"^metric BNScale .* which 0 has not: add it to exclude"):
        ConstrainedModel(model, torch.randn(2, 4), sparsity=0.5, metric=BNScale(), rho=1.0)
