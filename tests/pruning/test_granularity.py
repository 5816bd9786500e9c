"""A network under constraints finer than the channel: masked, held and never cut."""

import pytest
import torch
import torch.nn.functional as F
from support.networks import build

from admm_exp.admm.groups import count_kept
from admm_exp.admm.metrics import FPGM, L2Norm
from admm_exp.admm.partitions.block import Block
from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.partitions.element import Element
from admm_exp.admm.partitions.filter import Filter
from admm_exp.admm.partitions.kernel import Kernel
from admm_exp.admm.partitions.n_of_m import NOfM
from admm_exp.admm.partitions.shape import Shape
from admm_exp.errors import ConfigError
from admm_exp.pruning.constrained import ConstrainedModel

PARTITIONS = [Element(), NOfM(2), Block(2, 2), Kernel(), Shape(), Filter()]
OPTIMIZERS = {
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
}
each = pytest.mark.parametrize("partition", PARTITIONS, ids=lambda p: p.name)


def constrain(granularity, *, sparsity=0.5, metric=None, by_layer=None):
    model, inputs = build("residual")
    return ConstrainedModel(
        model,
        inputs,
        sparsity=sparsity,
        metric=metric or L2Norm(),
        rho=1.0,
        by_layer=by_layer,
        granularity=granularity,
    ), inputs


def zeros(network, constrained):
    """Count the zeros of every constrained weight."""
    names = [part.parameter for part in constrained.slices]
    return [int((network.get_parameter(name) == 0).sum()) for name in names]


def step(network, optimizer, inputs):
    optimizer.zero_grad()
    F.cross_entropy(network(inputs), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()


@each
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_the_finished_network_has_exactly_the_zeros_asked_for(partition, sparsity):
    constrained, inputs = constrain(partition, sparsity=sparsity)
    before = {k: v.clone() for k, v in constrained.model.state_dict().items()}
    network, difference = constrained.removal().finish(inputs)
    expected = [
        (g.n_units - count_kept(g.n_units, sparsity, g.n_blocks))
        * constrained.granularity.unit_size(constrained.model, g)
        for g in constrained.groups
    ]
    assert zeros(network, constrained) == expected
    assert difference == 0.0
    assert all(torch.equal(v, before[k]) for k, v in constrained.model.state_dict().items())


@each
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_weights_and_their_memory_are_zero_after_every_step(partition, name):
    constrained, inputs = constrain(partition)
    network, _ = constrained.removal().finish(inputs)
    optimizer = OPTIMIZERS[name](network.parameters())
    is_zero = {p: network.get_parameter(p) == 0 for p in (s.parameter for s in constrained.slices)}
    start = {p: network.get_parameter(p).detach().clone() for p in is_zero}
    for _ in range(3):
        with constrained.removal().finished_training(optimizer, network):
            step(network, optimizer, inputs)
        for p, mask in is_zero.items():
            weight = network.get_parameter(p)
            assert not weight[mask].any()
            for memory in optimizer.state[weight].values():
                assert memory.shape != weight.shape or not memory[mask].any()
    assert all(not torch.equal(network.get_parameter(p), start[p]) for p in is_zero)


def test_weights_outside_the_mask_train_as_if_the_others_did_not_exist():
    constrained, inputs = constrain(Element())
    held, _ = constrained.removal().finish(inputs)
    free, _ = constrained.removal().finish(inputs)
    optimizers = [OPTIMIZERS["nesterov"](n.parameters()) for n in (held, free)]
    masks = {s.parameter: free.get_parameter(s.parameter) != 0 for s in constrained.slices}
    for _ in range(3):
        with constrained.removal().finished_training(optimizers[0], held):
            step(held, optimizers[0], inputs)
        optimizers[1].zero_grad()
        F.cross_entropy(free(inputs), torch.tensor([0, 1, 2, 3])).backward()
        for name, mask in masks.items():
            free.get_parameter(name).grad.mul_(mask)  # the other way to hold a mask
        optimizers[1].step()
    for name in masks:
        torch.testing.assert_close(held.get_parameter(name), free.get_parameter(name))


def test_what_the_optimizer_remembered_before_does_not_wake_a_masked_weight():
    constrained, inputs = constrain(Element())
    network, _ = constrained.removal().finish(inputs)
    optimizer = OPTIMIZERS["nesterov"](network.parameters())
    step(network, optimizer, inputs)  # no mask held: momentum everywhere
    with constrained.removal().finished_training(optimizer, network):
        assert sum(zeros(network, constrained)) == sum(
            int((~m).sum()) for m in constrained.state.support
        )
        step(network, optimizer, inputs)
    assert sum(zeros(network, constrained)) == sum(
        int((~m).sum()) for m in constrained.state.support
    )


@each
def test_the_penalty_pulls_what_is_masked_to_zero(partition):
    constrained, inputs = constrain(partition)
    optimizer = torch.optim.SGD(constrained.model.parameters(), lr=0.5)
    with constrained.penalty(optimizer):
        for _ in range(30):
            optimizer.zero_grad()
            (0.0 * constrained.model(inputs)).sum().backward()
            optimizer.step()
    residuals = constrained.update()
    assert residuals.dead_energy < 1e-9
    assert residuals.support_change == 0.0


def test_a_sparsity_per_layer_reaches_its_layer():
    constrained, inputs = constrain(Element(), by_layer={"same.0": 0.0, "wider.0": 0.75})
    network, _ = constrained.removal().finish(inputs)
    assert int((network.same[0].weight == 0).sum()) == 0
    assert float((network.wider[0].weight == 0).float().mean()) == pytest.approx(0.75, abs=0.01)


def test_shrink_gives_another_network_the_same_zeros():
    constrained, inputs = constrain(Kernel())
    other, _ = build("residual")
    for parameter in other.parameters():
        torch.nn.init.ones_(parameter)
    shrunk, finished = constrained.removal().shrink(other), constrained.removal().finish(inputs)[0]
    for part in constrained.slices:
        is_zero = [network.get_parameter(part.parameter) == 0 for network in (shrunk, finished)]
        assert torch.equal(*is_zero)


def test_channels_are_cut_and_the_difference_told_is_that_to_the_masked_network():
    constrained, inputs = constrain(Channel())
    network, difference = constrained.removal().finish(inputs)
    assert network.stem[0].out_channels == 4
    masked, whole = constrained.removal().masked().eval(), constrained.model.eval()
    with torch.no_grad():
        expected, got, uncut = masked(inputs), network.eval()(inputs), whole(inputs)
    spread = float(expected.max() - expected.min())
    assert difference == pytest.approx(float((got - expected).abs().max()), abs=1e-7 * spread)
    assert difference <= 1e-5 * spread  # rounding alone, on some processors none at all
    assert float((uncut - expected).abs().max()) > 1e-2 * spread


def test_cut_channels_need_no_holding():
    constrained, inputs = constrain(Channel())
    network, _ = constrained.removal().finish(inputs)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with constrained.removal().finished_training(optimizer, network):
        step(network, optimizer, inputs)
    assert not optimizer._optimizer_step_post_hooks


def test_a_metric_without_meaning_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match="fpgm ranks units by their distances"):
        constrain(Element(), metric=FPGM())
    constrained, _ = constrain(Filter(), metric=FPGM())
    assert int(constrained.state.support[0].sum()) == 4
