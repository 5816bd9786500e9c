import pytest
import torch
import torch.nn.functional as F
from support.toy import batches, functions_of, is_same, mlp, sgd, train_fn, weights_of
from torch.optim import lr_scheduler

from admm_exp.errors import TrainingError
from admm_exp.phases.train import train_plain

SETTINGS = {
    "epochs": 4,
    "lr": 0.1,
    "decay": "cosine",
    "warmup": 0.0,
    "lr_per": "epoch",
    "offset": 0,
}


def test_phase_trains_as_a_plain_torch_loop_does():
    model, reference = mlp(), mlp()
    train_plain(model, "finetune", functions_of(), **SETTINGS)
    optimizer = sgd(reference.parameters(), 0.1)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    for _ in range(4):
        for x, y in batches():
            optimizer.zero_grad()
            F.cross_entropy(reference(x), y).backward()
            optimizer.step()
        scheduler.step()
    for got, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("is_known", [True, False])
def test_learning_rates_follow_every_step_as_a_torch_scheduler_does(is_known):
    seen, per_step = [], SETTINGS | {"lr_per": "step"}

    def spy(model, optimizer, epoch):
        for _ in batches():
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()

    functions = functions_of(train_fn=spy, steps_per_epoch=len(batches()) if is_known else None)
    train_plain(mlp(), "finetune", functions, **per_step)
    optimizer, expected = sgd(mlp().parameters(), 0.1), []
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * len(batches()))
    for _ in range(4 * len(batches())):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    unknown = 0 if is_known else len(batches())
    assert seen[unknown:] == pytest.approx(expected[unknown:])
    assert len(set(seen[:unknown])) <= 1


def test_no_epochs_leave_the_network_as_it_is_and_call_nothing():
    model = mlp()
    before = weights_of(model)
    functions = functions_of(train_fn=None, validate_fn=None, optimizer_fn=None)
    result = train_plain(model, "finetune", functions, **(SETTINGS | {"epochs": 0}))
    assert is_same(weights_of(model), before)
    assert (result.name, result.epochs, functions.observer.epochs) == ("finetune", 0, [])
    assert functions.observer.phases == [result]


def test_warmup_and_decay_reach_the_optimizer_and_the_records():
    seen = []

    def spy(model, optimizer, epoch):
        seen.append((epoch, optimizer.param_groups[0]["lr"]))
        optimizer.step()

    functions = functions_of(train_fn=spy)
    settings = SETTINGS | {"epochs": 6, "decay": "step", "warmup": 1 / 3, "offset": 7}
    train_plain(mlp(), "dense", functions, **settings)
    lrs = [0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.01, 0.001]
    assert [lr for _, lr in seen] == pytest.approx(lrs)
    assert [record.lr for record in functions.observer.epochs] == pytest.approx(lrs)
    assert [epoch for epoch, _ in seen] == [7, 8, 9, 10, 11, 12]
    assert [record.epoch for record in functions.observer.epochs] == [1, 2, 3, 4, 5, 6]


def test_optimizer_is_built_for_all_parameters_at_the_highest_learning_rate():
    model, built = mlp(), []

    def build(parameters, lr):
        optimizer = sgd(parameters, lr)
        built.append((lr, [id(p) for p in optimizer.param_groups[0]["params"]]))
        return optimizer

    train_plain(model, "dense", functions_of(optimizer_fn=build), **(SETTINGS | {"warmup": 0.5}))
    assert built == [(0.1, [id(p) for p in model.parameters()])]


def test_phase_result_has_the_name_the_epochs_and_the_time():
    result = train_plain(mlp(), "dense", functions_of(train_fn=train_fn), **SETTINGS)
    assert (result.name, result.epochs, result.cached) == ("dense", 4, False)
    assert 0 < result.seconds < 60


def test_unknown_decay_is_refused_before_anything_is_trained():
    model = mlp()
    before = weights_of(model)
    with pytest.raises(ValueError, match="decay must be constant, cosine or step"):
        train_plain(model, "dense", functions_of(), **(SETTINGS | {"decay": "linear"}))
    assert is_same(weights_of(model), before)
    assert torch.is_grad_enabled()


def test_train_function_that_never_steps_is_an_error_that_names_the_phase():
    def forgets(model, optimizer, epoch):
        return 0.5

    with pytest.raises(TrainingError, match=r"never stepped the optimizer .* in phase finetune"):
        train_plain(mlp(), "finetune", functions_of(train_fn=forgets), **SETTINGS)


def test_a_phase_may_go_on_with_the_curve_of_learning_rates_that_another_began():
    rates = []

    def spy(model, optimizer, epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()

    train_plain(mlp(), "dense", functions_of(train_fn=spy), **SETTINGS)
    whole, rates[:] = list(rates), []
    second_half = SETTINGS | {"epochs": 2, "before": 2}
    train_plain(mlp(), "finetune", functions_of(train_fn=spy), **second_half)
    assert rates == pytest.approx(whole[2:])


def test_a_phase_leaves_no_hook_on_the_optimizer():
    optimizers = []

    def optimizer_fn(parameters, lr):
        optimizers.append(sgd(parameters, lr))
        return optimizers[-1]

    train_plain(mlp(), "finetune", functions_of(optimizer_fn=optimizer_fn), **SETTINGS)
    (optimizer,) = optimizers
    assert not optimizer._optimizer_step_pre_hooks
