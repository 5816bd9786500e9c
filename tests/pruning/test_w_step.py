import pytest
import torch
from torch import nn

from admm_exp.admm.update import pull_
from admm_exp.errors import TrainingError
from admm_exp.pruning.penalty import penalty_hook
from admm_exp.pruning.surgery.groups import Slice
from admm_exp.pruning.w_step import Constrained, FoldedStep, GradientStep, ReducedStep

B, T = torch.tensor([3.0, -1.0, 0.5]).double(), torch.tensor([0.0, -1.0, 2.0]).double()
KEPT = torch.tensor([True, False, False])


def constrained_of(W, rho, is_whole=True):
    part = Slice("w", 0, 0, 3, is_whole)
    return Constrained([part], [W], lambda: [T], lambda: rho, lambda: [KEPT])


def minimise(optimizer_fn, rho, w_step, n_steps=400):
    """Minimise 1/2 ||W - B||^2 + rho/2 ||W - T||^2; W stands beside a parameter left free."""
    W, free = nn.Parameter(torch.zeros(3).double()), nn.Parameter(torch.ones(2).double())
    optimizer = optimizer_fn([W, free])
    with penalty_hook(optimizer, constrained_of(W, rho), w_step):
        for _ in range(n_steps):
            optimizer.zero_grad()
            (0.5 * (W - B).square().sum() + 0.5 * free.square().sum()).backward()
            optimizer.step()
    assert float(free.detach().abs().max()) < 1e-3  # no pull on it
    return W.detach()


OPTIMIZERS = {
    "plain": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True),
    "dampened": lambda p: torch.optim.SGD(p, 0.1, momentum=0.5, dampening=0.5),
    "fused": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True, fused=True),
    "groups": lambda p: torch.optim.SGD([{"params": q, "lr": 0.1} for q in p], 1.0),
}


@pytest.mark.parametrize("w_step", ["gradient", "folded", "proximal"])
@pytest.mark.parametrize("rho", [0.1, 2.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_form_comes_to_rest_at_the_closed_form_solution(name, rho, w_step):
    W = minimise(OPTIMIZERS[name], rho, w_step)
    assert torch.allclose(W, (B + rho * T) / (1 + rho), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rho", [0.1, 2.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_reduced_form_leaves_the_kept_units_to_the_task(name, rho):
    W = minimise(OPTIMIZERS[name], rho, "reduced")
    expected = torch.where(KEPT, B, (B + rho * T) / (1 + rho))
    assert torch.allclose(W, expected, rtol=0, atol=1e-6)


def test_reduced_form_pulls_on_what_an_update_inside_the_block_removes():
    W, state = nn.Parameter(torch.ones(3)), {"T": [torch.zeros(3)], "kept": [KEPT]}
    part = Slice("w", 0, 0, 3, True)
    held = Constrained([part], [W], lambda: state["T"], lambda: 0.5, lambda: state["kept"])
    optimizer = torch.optim.SGD([W], 1.0)
    with penalty_hook(optimizer, held, "reduced"):
        optimizer.step()
        assert W.tolist() == [1.0, 0.5, 0.5]
        state |= {"T": [torch.zeros(3)], "kept": [~KEPT]}
        optimizer.zero_grad()
        optimizer.step()
    assert W.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS.values(), torch.optim.AdamW])
def test_proximal_form_is_stable_for_every_rho(optimizer):
    slow = {torch.optim.AdamW: 3000}  # steps of a thousandth
    W = minimise(optimizer, 1e6, "proximal", n_steps=slow.get(optimizer, 400))
    assert torch.allclose(W, T, rtol=0, atol=1e-3)


def test_gradient_form_is_not():
    assert not bool(minimise(OPTIMIZERS["plain"], 1e6, "gradient").isfinite().all())


def test_adam_shrinks_the_pull_of_the_gradient_form_and_not_of_the_proximal():
    """Without task gradient one step at lr * rho = 1 leaves half, whatever the optimizer."""
    W = {}
    for w_step in ("gradient", "proximal"):
        parameter = nn.Parameter(8.0 + T)
        optimizer = torch.optim.AdamW([parameter], 0.1, weight_decay=0.0)
        with penalty_hook(optimizer, constrained_of(parameter, 10.0), w_step):
            optimizer.step()
        W[w_step] = parameter.detach() - T
    assert torch.allclose(W["gradient"], torch.full_like(T, 7.9))  # lr, not lr * rho * 8
    # without a gradient AdamW leaves the parameter out, the pull does not
    assert torch.allclose(W["proximal"], torch.full_like(T, 4.0))


@pytest.mark.parametrize("optimizer_fn", [torch.optim.AdamW, torch.optim.RMSprop])
def test_reduced_form_pulls_after_the_step_of_other_optimizers(optimizer_fn):
    parameter = nn.Parameter(8.0 + T)
    optimizer = optimizer_fn([parameter], 0.1, weight_decay=0.0)
    with penalty_hook(optimizer, constrained_of(parameter, 10.0), "reduced"):
        optimizer.step()
    expected = T + torch.where(KEPT, 8.0, 4.0)
    assert torch.allclose(parameter.detach(), expected)


@pytest.mark.parametrize("w_step", ["gradient", "folded", "proximal", "reduced"])
@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"lr": 0.02, "momentum": 0.9, "nesterov": True}])
def test_maximizing_pulls_as_minimizing_the_negative_does(settings, w_step):
    W = []
    for sign in (1.0, -1.0):
        parameter = nn.Parameter(torch.zeros(3).double())
        optimizer = torch.optim.SGD([parameter], maximize=sign < 0, weight_decay=0.01, **settings)
        with penalty_hook(optimizer, constrained_of(parameter, 2.0), w_step):
            for _ in range(400):
                optimizer.zero_grad()
                (sign * 0.5 * (parameter - B).square().sum()).backward()
                optimizer.step()
        W.append(parameter.detach())
    assert torch.allclose(W[0], W[1])
    pulled = torch.where(KEPT, torch.tensor(0.0), 2.0).double() if w_step == "reduced" else 2.0
    assert torch.allclose(W[0], (B + pulled * T) / (1.01 + pulled), atol=2e-2)


def test_groups_of_which_one_maximizes_are_refused():
    weights = [nn.Parameter(torch.zeros(3).double()) for _ in range(2)]
    groups = [{"params": weights[0], "maximize": True}, {"params": weights[1]}]
    parts = [Slice(name, 0, 0, 3, True) for name in "ab"]
    held = Constrained(parts, weights, lambda: [T, T], lambda: 1.0, lambda: [KEPT, KEPT])
    optimizer = torch.optim.SGD(groups, 0.1)
    for w_step in ("gradient", "folded", "reduced"):
        with pytest.raises(TrainingError, match=r"maximize=True and others .*w_step=proximal"):
            penalty_hook(optimizer, held, w_step).__enter__()
    with penalty_hook(optimizer, held, "proximal"):
        optimizer.step()


def test_pull_is_the_minimiser_of_the_proximal_objective():
    w = B.clone()
    pull_([w], [T], rho=0.7, step=0.3)
    gradient = (w - B) / 0.3 + 0.7 * (w - T)  # of 1/(2 step) |w - B|^2 + rho/2 |w - T|^2
    assert float(gradient.abs().max()) < 1e-12


def test_pull_takes_targets_of_another_type():
    w = torch.ones(3, dtype=torch.bfloat16)
    pull_([w], [torch.zeros(3)], rho=1.0, step=1.0)
    assert w.tolist() == [0.5] * 3


def test_folded_form_leaves_the_rest_of_a_sliced_parameter_without_decay():
    W = nn.Parameter(torch.ones(4).double())
    part = Slice("w", 0, 1, 3, False)
    optimizer = torch.optim.SGD([W], 0.1)
    held = Constrained([part], [W], lambda: [T], lambda: 2.0, lambda: [KEPT])
    with penalty_hook(optimizer, held, "folded"):
        optimizer.step()
    expected = torch.cat([torch.ones(1).double(), 1.0 - 0.1 * 2.0 * (1.0 - T)])
    assert torch.allclose(W, expected)


def test_folded_form_shows_schedulers_their_own_groups():
    W = nn.Parameter(torch.ones(3).double())
    optimizer = torch.optim.SGD([W], 0.1, weight_decay=0.01)
    groups = optimizer.param_groups
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    with penalty_hook(optimizer, constrained_of(W, 2.0), "folded"):
        for lr in (0.1, 0.05):
            before = W.detach().clone()
            optimizer.zero_grad()
            optimizer.step()
            assert torch.allclose(W, before - lr * (2.01 * before - 2.0 * T))
            assert optimizer.param_groups is groups
            assert groups[0]["weight_decay"] == 0.01
            scheduler.step()


def test_failed_folded_step_leaves_the_groups_as_they_were():
    class Fails(torch.optim.SGD):
        def step(self, closure=None):
            raise MemoryError

    optimizer = Fails([nn.Parameter(torch.ones(3).double())], 0.1)
    groups = optimizer.param_groups
    W = groups[0]["params"][0]
    with (
        pytest.raises(MemoryError),
        penalty_hook(optimizer, constrained_of(W, 2.0), "folded"),
    ):
        optimizer.step()
    assert optimizer.param_groups is groups


def test_folded_form_is_refused_for_other_optimizers():
    W = nn.Parameter(torch.ones(3).double())
    optimizer = torch.optim.AdamW([W], 0.1)
    with (
        pytest.raises(TrainingError, match=r"folded needs torch\.optim\.SGD, .*, got AdamW"),
        penalty_hook(optimizer, constrained_of(W, 2.0), "folded"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("form", [GradientStep, ReducedStep, FoldedStep])
def test_the_penalty_has_the_scale_that_is_on_the_gradients(form):
    W = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]).double())
    optimizer, steps = torch.optim.SGD([W], 0.1), []
    for scale in (1.0, 1024.0):
        W.grad = torch.zeros_like(W)
        held = constrained_of(W, 0.5)
        step = form(held, optimizer)
        step.before(optimizer, scale)
        steps.append(W.grad.clone())
        step.after(optimizer)
    assert bool(steps[0].any())
    assert torch.allclose(steps[1], 1024 * steps[0])
