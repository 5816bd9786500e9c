import copy

import pytest
import torch
from torch import nn

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.metrics import L2Norm
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.state import initial_state, split
from admm_exp.admm.update import update
from admm_exp.errors import TrainingError
from admm_exp.pruning.penalty import penalty_hook
from admm_exp.pruning.surgery.groups import Slice
from admm_exp.pruning.w_step import Constrained

RHO = 0.4
# Two whole parameters, and rows 1 and 2 of a third whose row 0 is free.
SLICES = [
    Slice("0.weight", 0, 0, 4, True),
    Slice("0.bias", 0, 0, 4, True),
    Slice("2.weight", 0, 1, 2, False),
]
KEPT = [torch.tensor([[True], [False], [True], [False]]), torch.tensor([True, False] * 2)]
KEPT += [torch.tensor([[False], [True]])]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1),
}


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)


def constrained_of(model):
    return [model.get_parameter(s.parameter) for s in SLICES]


def targets_of(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in [(4, 3), (4,), (2, 4)]]


def hooked(optimizer, model, targets=None, rho=RHO, w_step="gradient"):
    targets = targets_of(model[0].weight.dtype) if targets is None else targets
    parameters = constrained_of(model)
    constrained = Constrained(SLICES, parameters, lambda: targets, lambda: rho, lambda: KEPT)
    return penalty_hook(optimizer, constrained, w_step)


def held_of(weights, state, constraint):
    kept = constraint.masks(weights, state.support)
    return Constrained(SLICES[:2], weights, lambda: state.targets, lambda: RHO, lambda: kept)


def task_loss(model, seed):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
    return (model(x.to(model[0].weight.dtype)) - 1.0).square().mean()


def penalty_loss(model):
    views = [s.of(p) for s, p in zip(SLICES, constrained_of(model), strict=True)]
    distances = [(w - t).square().sum() for w, t in zip(views, targets_of(), strict=True)]
    return RHO / 2 * sum(distances)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(model, optimizer, n_steps=6, accumulation=1, max_norm=None, penalty=lambda model: None):
    for step in range(n_steps):
        optimizer.zero_grad()
        for part in range(accumulation):
            (task_loss(model, 10 * step + part) / accumulation).backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        penalty(model)
        optimizer.step()
    return flat(model)


@pytest.mark.parametrize("max_norm", [None, 0.05])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(
    ("name", "w_step"),
    [(name, "gradient") for name in OPTIMIZERS]
    + [(name, "folded") for name in OPTIMIZERS if name != "adamw"],
)
def test_hook_trains_as_the_loss_form_does(name, w_step, accumulation, max_norm):
    model, reference = network(), network()
    optimizer = OPTIMIZERS[name](model.parameters())
    with hooked(optimizer, model, w_step=w_step):
        got = train(model, optimizer, accumulation=accumulation, max_norm=max_norm)
    expected = train(
        reference,
        OPTIMIZERS[name](reference.parameters()),
        accumulation=accumulation,
        max_norm=max_norm,  # clips the task gradient only
        penalty=lambda model: penalty_loss(model).backward(),
    )
    plain = network()
    without = train(plain, OPTIMIZERS[name](plain.parameters()))
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(got, without, atol=1e-3)


def test_gradient_is_rho_times_w_minus_z_plus_u_in_iterations_1_to_5():
    model = network(torch.float32)
    weights = [model[0].weight, model[0].bias]  # live parameters, as a careless caller has them
    group = ChannelGroup("0", 4, 2, (Member(0, 0), Member(1, 0)))
    constraint = ChannelConstraint((group,), L2Norm())
    state = initial_state(weights, constraint, RHO)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(5):
        Z, U = split(state, constraint)
        held = held_of(weights, state, constraint)
        with penalty_hook(optimizer, held):
            for seed in range(3):
                task = torch.autograd.grad(task_loss(model, seed), weights)
                triples = zip(task, weights, Z, U, strict=True)
                expected = [g + RHO * (w - z + u).detach() for g, w, z, u in triples]
                optimizer.zero_grad()
                task_loss(model, seed).backward()
                optimizer.step()
                for weight, gradient in zip(weights, expected, strict=True):
                    assert torch.allclose(weight.grad, gradient, rtol=1e-4, atol=1e-6)
        state, _ = update(weights, state, constraint)
    assert max(float(u.abs().max()) for u in U) > 0.01  # a dual was there to be counted


def step_with_gradient_of(model, optimizer, seed=0):
    optimizer.zero_grad()
    task_loss(model, seed).backward()
    before = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    pairs = zip(model.parameters(), before, strict=True)
    return [p.grad - task for p, task in pairs]


def test_only_constrained_rows_get_a_penalty():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with hooked(optimizer, model):
        weight, bias, last_weight, last_bias = step_with_gradient_of(model, optimizer)
    T = targets_of()
    assert torch.allclose(weight, RHO * (model[0].weight - T[0]))
    assert torch.allclose(bias, RHO * (model[0].bias - T[1]))
    assert torch.allclose(last_weight[1:], RHO * (model[2].weight[1:] - T[2]))
    assert not last_weight[0].any()
    assert not last_bias.any()


def test_parameter_without_gradient_is_pulled_all_the_same():
    model = network()
    before = model[0].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    with hooked(optimizer, model):
        optimizer.step()
    expected = before - 0.5 * RHO * (before - targets_of()[0])
    assert torch.allclose(model[0].weight, expected)
    assert model[2].bias.grad is None


def test_targets_and_rho_are_read_anew_at_every_step():
    model, rhos = network(), iter([1.0, 0.0, 2.0])
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    zeros = [torch.zeros_like(t) for t in targets_of()]
    added = []
    parameters = constrained_of(model)
    held = Constrained(SLICES, parameters, lambda: zeros, lambda: next(rhos), lambda: KEPT)
    with penalty_hook(optimizer, held):
        for _ in range(3):
            bias = model[0].bias.detach()
            added.append(step_with_gradient_of(model, optimizer)[1] / bias)
    assert [float(a.mean()) for a in added] == pytest.approx([1.0, 0.0, 2.0])


@pytest.mark.parametrize("w_step", ["gradient", "folded"])
@pytest.mark.parametrize("is_clipped", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_gradient_scaler_does_not_change_the_penalty(fused, is_clipped, w_step):
    model, plain = network(torch.float32), network(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    with hooked(optimizer, model, w_step=w_step):
        for step in range(6):
            optimizer.zero_grad()
            scaler.scale(task_loss(model, 10 * step)).backward()
            if is_clipped:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            scaler.step(optimizer)
            scaler.update()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
    with hooked(optimizer, plain):
        expected = train(plain, optimizer, max_norm=0.05 if is_clipped else None)
    assert torch.allclose(flat(model), expected, rtol=1e-5, atol=1e-6)


FUSED = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05, fused=True),
}


@pytest.mark.parametrize("is_unscaled", [False, True])
@pytest.mark.parametrize(
    ("name", "w_step"),
    [(name, w_step) for name in FUSED for w_step in ("gradient", "proximal", "reduced")]
    + [("sgd", "folded")],
)
def test_step_that_a_fused_optimizer_leaves_out_moves_nothing(name, w_step, is_unscaled):
    model = network(torch.float32)
    optimizer = FUSED[name](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    with hooked(optimizer, model, w_step=w_step):
        for overflows in (False, True, False):
            before = flat(model)
            optimizer.zero_grad()
            scaler.scale(task_loss(model, 0)).backward()
            if overflows:
                model[2].bias.grad[0] = float("inf")
            if is_unscaled:  # as the train function of this package does
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            assert torch.equal(flat(model), before) == overflows


def test_bfloat16_weights_are_pulled_to_float32_targets():
    model = network(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with hooked(optimizer, model, targets_of(torch.float32)):
        added = step_with_gradient_of(model, optimizer)[0]
    expected = RHO * (model[0].weight.float() - targets_of(torch.float32)[0])
    assert torch.allclose(added.float(), expected, atol=0.02)


def test_learning_rate_scheduler_does_not_double_the_penalty():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # wraps step()
    with hooked(optimizer, model):
        added = step_with_gradient_of(model, optimizer)[1]
    assert torch.allclose(added, RHO * (model[0].bias - targets_of()[1]))


class CallsSuper(torch.optim.SGD):
    """An optimizer of a user's own, whose step runs the hooks of SGD a second time."""

    def step(self, closure=None):
        return super().step(closure)


def test_optimizer_that_calls_super_does_not_double_the_penalty():
    model = network()
    torch.optim.SGD(model.parameters(), 0.1)  # the first SGD of a process prepares its step()
    optimizer = CallsSuper(model.parameters(), 0.0)
    with hooked(optimizer, model):
        for _ in range(3):
            added = step_with_gradient_of(model, optimizer)[1]
            assert torch.allclose(added, RHO * (model[0].bias - targets_of()[1]))


def test_failed_step_that_is_swallowed_is_an_error():
    class Fails(torch.optim.SGD):
        def step(self, closure=None):
            raise MemoryError

    model = network()
    optimizer = Fails(model.parameters(), 0.1)
    with (
        pytest.raises(TrainingError, match="a step of the optimizer failed"),
        hooked(optimizer, model),
        pytest.raises(MemoryError),
    ):
        optimizer.step()


def test_optimizer_that_is_never_stepped_is_an_error():
    model = network()
    optimizer, other = (torch.optim.SGD(model.parameters(), 0.1) for _ in range(2))
    with (
        pytest.raises(TrainingError, match="never stepped the optimizer it was given"),
        hooked(optimizer, model),
    ):
        train(model, other, n_steps=2)


@pytest.mark.parametrize("args", [((lambda: 0.0,), {}), ((), {"closure": lambda: 0.0})])
def test_closure_is_refused_however_it_is_passed(args):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with (
        pytest.raises(TrainingError, match="stepped with a closure, which overwrites the penalty"),
        hooked(optimizer, model),
    ):
        optimizer.step(*args[0], **args[1])


@pytest.mark.parametrize("args", [((None,), {}), ((), {"closure": None})])
def test_closure_that_is_none_is_none(args):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = flat(model)
    with hooked(optimizer, model):
        optimizer.step(*args[0], **args[1])
    assert not torch.equal(flat(model), before)


def test_optimizer_without_a_constrained_parameter_is_refused_by_name():
    model = network()
    optimizer = torch.optim.SGD([model[0].weight, *model[2].parameters()], 0.1)
    with (
        pytest.raises(TrainingError, match=r"the optimizer does not train 0\.bias"),
        hooked(optimizer, model),
    ):
        pytest.fail("the block must not run")


def test_constrained_parameters_may_be_in_any_parameter_group():
    model = network()
    groups = [{"params": p, "lr": 0.0} for p in model.parameters()]
    optimizer = torch.optim.SGD(groups, 0.1)
    with hooked(optimizer, model):
        added = step_with_gradient_of(model, optimizer)[0]
    assert torch.allclose(added, RHO * (model[0].weight - targets_of()[0]))


def test_step_after_the_block_is_a_plain_step():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with hooked(optimizer, model):
        optimizer.step()
    assert not any(added.any() for added in step_with_gradient_of(model, optimizer))
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_hook_goes_when_the_block_raises_and_the_error_comes_through():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(KeyError, match="mine"), hooked(optimizer, model):
        raise KeyError("mine")
    assert not any(added.any() for added in step_with_gradient_of(model, optimizer))


def test_second_block_counts_its_own_steps():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with hooked(optimizer, model):
        optimizer.step()
    with pytest.raises(TrainingError, match="never stepped"), hooked(optimizer, model):
        pass


def test_weights_and_targets_are_only_read():
    model, targets = network(), targets_of()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with hooked(optimizer, model, targets):
        step_with_gradient_of(model, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(map(torch.equal, targets, targets_of()))
