import pytest
import torch
from torch import nn

from admm_exp.pruning.masked import masked
from admm_exp.pruning.surgery.groups import Slice

# Unit 1 of a whole weight; unit 0 of the last two of three rows.
SLICES = [Slice("0.weight", 0, 0, 4, True), Slice("1.weight", 1, 2, 2, False)]
MASKS = [
    torch.tensor([[True], [False], [True], [True]]),
    torch.tensor([[False, True]]),
]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def parameters_of(model):
    return [model.get_parameter(s.parameter) for s in SLICES]


def step(model, optimizer):
    optimizer.zero_grad()
    (model(torch.ones(5, 3)) - 1.0).square().mean().backward()
    optimizer.step()


def held(model):
    return torch.cat([model[0].weight[1], model[1].weight[:, 2]]).detach()


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_masked_weights_are_zero_from_the_start_and_after_every_step(build):
    model = network()
    optimizer = build(model.parameters())
    for _ in range(3):  # leaves a momentum that would move them
        step(model, optimizer)
    assert held(model).abs().min() > 0
    with masked(optimizer, parameters_of(model), SLICES, MASKS):
        assert not held(model).any()
        for _ in range(3):
            step(model, optimizer)
            assert not held(model).any()
    assert model[0].weight[0].any()
    assert model[1].weight[:, 3].any()


def test_momentum_of_masked_weights_is_zero_and_that_of_others_stays():
    model = network()
    optimizer = OPTIMIZERS["nesterov"](model.parameters())
    step(model, optimizer)
    memory = optimizer.state[model[0].weight]["momentum_buffer"]
    others = memory[[0, 2, 3]].clone()
    with masked(optimizer, parameters_of(model), SLICES, MASKS):
        assert not memory[1].any()
        assert torch.equal(memory[[0, 2, 3]], others)


def test_kept_weights_train_as_in_a_network_where_the_others_never_were():
    model, reference = network(), network()
    with torch.no_grad():
        reference[0].weight[1] = 0
        reference[1].weight[:, 2] = 0
    reference[0].weight.register_hook(lambda g: g * MASKS[0])
    reference[1].weight.register_hook(lambda g: g * torch.tensor([[1, 1, 0, 1]]))
    optimizers = [OPTIMIZERS["nesterov"](m.parameters()) for m in (model, reference)]
    with masked(optimizers[0], parameters_of(model), SLICES, MASKS):
        for _ in range(4):
            step(model, optimizers[0])
            step(reference, optimizers[1])
    assert all(map(torch.allclose, model.parameters(), reference.parameters()))


def test_leaving_the_block_frees_the_weights():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with masked(optimizer, parameters_of(model), SLICES, MASKS):
        step(model, optimizer)
    step(model, optimizer)
    assert held(model).any()
