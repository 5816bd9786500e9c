import pytest
import torch
from torch import nn

from admm_exp.training.optimizer import build_optimizer, clip_gradients, momentum_of

SETTINGS = {"momentum": 0.9, "weight_decay": 0.01, "nesterov": False}


def steps_of(name, gradients, **settings):
    """Step one scalar that starts at 2 with the given gradients."""
    parameter = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    optimizer = build_optimizer(name, [parameter], 0.1, **(SETTINGS | settings))
    path = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        path.append(float(parameter.detach()))
    return path


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_has_coupled_decay_and_momentum(nesterov):
    w, velocity, expected = 2.0, 0.0, []
    for task_gradient in [1.0, -0.5, 0.25]:
        gradient = task_gradient + 0.01 * w
        velocity = 0.9 * velocity + gradient
        w -= 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
        expected.append(w)
    assert steps_of("sgd", [1.0, -0.5, 0.25], nesterov=nesterov) == pytest.approx(expected)


def test_adamw_has_decoupled_decay():
    # The first step of Adam has length lr, whatever the gradient's size; decay comes on top.
    expected = 2.0 * (1 - 0.1 * 0.01) - 0.1
    assert steps_of("adamw", [123.0]) == pytest.approx([expected], rel=1e-6)


def test_adamw_without_gradient_only_decays():
    assert steps_of("adamw", [0.0], weight_decay=0.5) == pytest.approx([2.0 * (1 - 0.1 * 0.5)])


@pytest.mark.parametrize(("name", "momentum"), [("sgd", (0.9, True)), ("adamw", None)])
def test_momentum_is_read_from_the_optimizer(name, momentum):
    settings = SETTINGS | {"nesterov": True}
    optimizer = build_optimizer(name, [nn.Parameter(torch.zeros(1))], 0.1, **settings)
    assert momentum_of(optimizer) == momentum


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adam])
def test_optimizers_that_scale_steps_have_no_momentum_of_sgd(kind):
    assert momentum_of(kind([nn.Parameter(torch.zeros(1))], 0.1)) is None


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"^optimizer must be sgd or adamw, got 'lion'$"):
        build_optimizer("lion", [nn.Parameter(torch.zeros(1))], 0.1, **SETTINGS)


def test_a_cpu_keeps_the_step_whose_rounding_is_known():
    optimizer = build_optimizer("sgd", [nn.Parameter(torch.zeros(1))], 0.1, **SETTINGS)
    assert not optimizer.defaults["fused"]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_gpu_steps_in_one_kernel_and_gets_the_same_numbers(name):
    weights = []
    for device in ("cpu", "cuda"):
        parameter = nn.Parameter(torch.linspace(-1, 1, 37, device=device))
        optimizer = build_optimizer(name, [parameter], 0.1, **SETTINGS)
        assert bool(optimizer.defaults["fused"]) is (device == "cuda")
        for step in range(5):
            parameter.grad = torch.linspace(0, step, 37, device=device)
            optimizer.step()
        weights.append(parameter.detach().cpu())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("max_norm", "expected"), [(2.5, [1.5, 2.0]), (10.0, [3.0, 4.0])])
def test_no_gradient_is_longer_than_its_limit(max_norm, expected):
    weight = nn.Parameter(torch.zeros(2))
    optimizer = clip_gradients(torch.optim.SGD([weight], 1.0), max_norm)
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([-value for value in expected], rel=1e-5)


def test_what_is_added_behind_the_limit_is_not_clipped():
    weight = nn.Parameter(torch.zeros(2))
    optimizer = clip_gradients(torch.optim.SGD([weight], 1.0), 1.0)

    def pull(*_):
        weight.grad.add_(100.0)

    optimizer.register_step_pre_hook(pull)
    weight.grad = torch.tensor([30.0, 40.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([-100.6, -100.8], rel=1e-5)


def test_without_a_limit_nothing_hangs_on_the_optimizer():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], 1.0)
    assert not clip_gradients(optimizer, None)._optimizer_step_pre_hooks
