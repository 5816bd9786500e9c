import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from admm_exp.errors import TrainingError
from admm_exp.results import Evaluation
from admm_exp.training.learning_rate import listed, training_lrs
from admm_exp.training.loop import (
    DivergedError,
    as_evaluation,
    evaluate,
    run_epochs,
    train_epoch,
)
from admm_exp.training.precision import Stepping


def batches_of(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 5, generator=generator), torch.randint(3, (n,), generator=generator))
        for n in sizes
    ]


def linear():
    torch.manual_seed(0)
    return nn.Linear(5, 3)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr)


def run(lrs=(0.1,), *, model=None, optimizer=None, **options):
    """Run epochs with functions that do nothing unless they are given; return the records."""
    model = model or linear()
    records = []
    functions = {"train_fn": lambda *_: None, "validate_fn": lambda _: 0.5} | options
    done = functions.pop("done", 0)
    run_epochs(
        model,
        optimizer or sgd(model),
        listed([math.nan] * done + list(lrs)),
        range(done, done + len(lrs)),
        phase=functions.pop("phase", "admm"),
        on_epoch=functions.pop("on_epoch", records.append),
        **functions,
    )
    return records


def test_train_epoch_takes_the_steps_worked_out_by_hand():
    model, batches = linear(), batches_of(8, 8, 3)
    W, b = model.weight.detach().double().clone(), model.bias.detach().double().clone()
    for images, labels in batches:
        logits = images.double() @ W.T + b
        error = (logits.softmax(dim=1) - F.one_hot(labels, 3)) / len(labels)
        W, b = W - 0.1 * error.T @ images.double(), b - 0.1 * error.sum(dim=0)
    train_epoch(model, sgd(model), batches)
    assert torch.allclose(model.weight.double(), W, atol=1e-6)
    assert torch.allclose(model.bias.double(), b, atol=1e-6)


def test_train_epoch_returns_the_mean_loss_a_batch():
    model, batches = linear(), batches_of(8, 2)
    losses = [F.cross_entropy(model(x), y).item() for x, y in batches]
    assert train_epoch(model, sgd(model, lr=0.0), batches) == pytest.approx(sum(losses) / 2)


def test_train_epoch_trains_in_training_mode():
    model = nn.Sequential(nn.BatchNorm1d(5), linear()).eval()
    train_epoch(model, sgd(model), batches_of(8))
    assert model.training
    assert bool(model[0].running_mean.any())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_names_its_first_step(value):
    batches = batches_of(4, 4, 4, 4)
    batches[2][0][0, 0] = value
    model = linear()
    with pytest.raises(DivergedError, match=r"not a finite number at step 3$") as caught:
        train_epoch(model, sgd(model), batches)
    assert caught.value.step == 3


def test_evaluation_is_per_sample_over_uneven_batches():
    model, batches = linear(), batches_of(7, 2)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    log_p = model(images).detach().log_softmax(dim=1)
    hits = sum(int(row.argmax()) == int(y) for row, y in zip(log_p, labels, strict=True))
    loss = -sum(float(row[y]) for row, y in zip(log_p, labels, strict=True)) / 9
    evaluation = evaluate(model, batches)
    assert evaluation.accuracy == pytest.approx(hits / 9)
    assert evaluation.loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("is_training", [True, False])
def test_evaluation_is_in_evaluation_mode_and_restores_the_mode(is_training):
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5), linear()).train(is_training)
    before = [buffer.clone() for buffer in model.buffers()]
    assert evaluate(model, batches_of(8)) == evaluate(model, batches_of(8))
    assert all(module.training is is_training for module in model.modules())
    assert all(map(torch.equal, model.buffers(), before))


def test_epochs_passed_to_train_fn_go_on_over_the_run():
    seen = []
    run([0.1] * 3, train_fn=lambda model, optimizer, epoch: seen.append(epoch), done=4, offset=10)
    assert seen == [14, 15, 16]


def test_records_count_epochs_from_1_within_the_phase():
    records = run([0.3, 0.2], done=4, offset=10, phase="finetune")
    assert [(r.phase, r.epoch, r.lr) for r in records] == [
        ("finetune", 5, 0.3),
        ("finetune", 6, 0.2),
    ]
    assert all(r.seconds >= 0 for r in records)


def test_learning_rate_of_an_epoch_is_set_before_it_and_ratios_are_kept():
    weight, bias = linear().parameters()
    groups = [{"params": [weight], "lr": 0.5}, {"params": [bias], "lr": 0.05}]
    seen = []
    run(
        [0.4, 0.02],
        optimizer=torch.optim.SGD(groups, 0.5),
        train_fn=lambda model, optimizer, epoch: seen.append(
            [group["lr"] for group in optimizer.param_groups]
        ),
    )
    assert seen[0] == pytest.approx([0.4, 0.04])
    assert seen[1] == pytest.approx([0.02, 0.002])


def stepping(times):
    """A train function that steps the optimizer so often and keeps the learning rates it had."""
    seen = []

    def train_fn(model, optimizer, epoch):
        seen.append([])
        for _ in range(times[epoch]):
            seen[-1].append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()

    return train_fn, seen


def run_per_step(times, *, optimizer=None, model=None, **options):
    """Train an epoch of as many steps as each number says, at a falling learning rate per step."""
    train_fn, seen = stepping(times)
    lrs = training_lrs("cosine", 0.1, len(times), warmup=0.0, per="step")
    model, records = model or linear(), []
    n_steps = run_epochs(
        model,
        optimizer or sgd(model),
        lrs,
        range(len(times)),
        train_fn=train_fn,
        validate_fn=lambda _: 0.5,
        phase="dense",
        on_epoch=records.append,
        **options,
    )
    return lrs, seen, records, n_steps


def test_every_step_has_its_own_learning_rate_and_ratios_are_kept():
    weight, bias = linear().parameters()
    groups = [{"params": [weight], "lr": 0.5}, {"params": [bias], "lr": 0.05}]
    optimizer = torch.optim.SGD(groups, 0.5, momentum=0.9)
    lrs, seen, records, n_steps = run_per_step([3, 3], optimizer=optimizer, steps_per_epoch=3)
    expected = [lrs.of_epoch(epoch, 3) for epoch in (0, 1)]
    assert [[lr for lr, _ in epoch] for epoch in seen] == expected
    assert [slow / fast for epoch in seen for fast, slow in epoch] == pytest.approx([0.1] * 6)
    assert [record.lr for record in records] == pytest.approx([sum(e) / 3 for e in expected])
    assert n_steps == 3


def test_steps_that_nobody_knew_are_those_of_the_epoch_before():
    lrs, seen, _, n_steps = run_per_step([4, 4, 5])
    assert seen[0] == [[lrs.at(0, 0, None)]] * 4
    assert seen[1] == [[lr] for lr in lrs.of_epoch(1, 4)]
    assert seen[2] == [[lr] for lr in [*lrs.of_epoch(2, 4), lrs.at(2, 3, 4)]]  # one step too many
    assert n_steps == 5


def test_an_optimizer_that_runs_its_hooks_twice_takes_one_step():
    class Twice(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    model = linear()
    optimizer = Twice(model.parameters(), 0.1)
    lrs, seen, *_ = run_per_step([3], optimizer=optimizer, model=model, steps_per_epoch=3)
    assert seen[0] == [[lr] for lr in lrs.of_epoch(0, 3)]


def test_nothing_stays_on_the_optimizer_when_the_epochs_are_over():
    model = linear()
    optimizer = sgd(model)
    run_per_step([2, 2], optimizer=optimizer, model=model)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_ratios_survive_one_call_after_another():
    weight, bias = linear().parameters()
    optimizer = torch.optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 0.05}], 0.5)
    for lr in (0.3, 0.1, 0.007):
        run([lr], optimizer=optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.007, 0.0007])


def test_epoch_is_validated_after_it_was_trained():
    order = []
    run(
        [0.1, 0.1],
        train_fn=lambda *_: order.append("train"),
        validate_fn=lambda _: order.append("validate") or 0.5,
    )
    assert order == ["train", "validate"] * 2


@pytest.mark.parametrize(
    ("returned", "loss"),
    [
        (0.25, 0.25),
        (torch.tensor(0.25), 0.25),
        (torch.tensor(0.25, requires_grad=True), 0.25),  # a plain float() of it warns
        ({"train_loss": 0.25, "lr": 1}, 0.25),
        ({"lr": 1}, None),
        (None, None),
    ],
)
def test_train_fn_may_return_a_loss_a_mapping_or_nothing(returned, loss):
    assert run(train_fn=lambda *_: returned)[0].train_loss == loss


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        ("0.25", "str"),
        (nn.Linear(1, 1), "Linear"),
        ((0.25, 0.9), "tuple"),
        (torch.ones(3), "Tensor"),
        ({"train_loss": "0.25"}, "str"),
    ],
)
def test_train_fn_that_returns_something_else_is_an_error(returned, kind):
    message = f"train_fn must return a loss as a number, or None, got {kind}$"
    with pytest.raises(TrainingError, match=message):
        run(train_fn=lambda *_: returned)


@pytest.mark.parametrize("returned", [0.75, torch.tensor(0.75), torch.tensor([0.75]), 3 / 4])
def test_validate_fn_may_return_any_number(returned):
    assert as_evaluation(returned) == Evaluation(0.75, None)


@pytest.mark.parametrize(
    ("returned", "kind"),
    [("0.93", "str"), ("good", "str"), (None, "NoneType"), ((0.9, 0.1), "tuple"), ({}, "dict")],
)
def test_validate_fn_that_returns_no_number_is_an_error(returned, kind):
    message = f"^validate_fn must return an accuracy as a number, got {kind}$"
    with pytest.raises(TrainingError, match=message):
        as_evaluation(returned)


@pytest.mark.parametrize("wrap", [float, lambda accuracy: Evaluation(accuracy, 0.1)])
@pytest.mark.parametrize("accuracy", [93.1, -0.1, float("nan")])
def test_accuracy_outside_0_and_1_is_an_error(accuracy, wrap):
    message = rf"^validate_fn must return an accuracy in \[0, 1\], got {accuracy}$"
    with pytest.raises(TrainingError, match=message):
        as_evaluation(wrap(accuracy))


def test_evaluation_goes_into_the_record_with_its_loss():
    record = run(validate_fn=lambda _: Evaluation(0.75, 1.5))[0]
    assert (record.val_accuracy, record.val_loss) == (0.75, 1.5)


def test_divergence_names_phase_epoch_step_and_learning_rate():
    batches = batches_of(4, 4)
    batches[1][0][0, 0] = float("nan")

    def train_fn(model, optimizer, epoch):
        return train_epoch(model, optimizer, batches if epoch == 12 else batches[:1])

    message = r"at step 2 of epoch 3 of phase finetune; lower the learning rate \(0.05\)$"
    with pytest.raises(TrainingError, match=message):
        run([0.1, 0.1, 0.05], train_fn=train_fn, phase="finetune", offset=10)


@pytest.mark.parametrize("wrap", [float, torch.tensor, lambda loss: {"train_loss": loss}])
def test_loss_of_a_users_train_fn_that_is_not_finite_names_phase_and_epoch(wrap):
    losses = iter([0.5, float("nan")])
    message = "^training diverged: the loss is not a finite number at the end of epoch 2 of phase"
    with pytest.raises(TrainingError, match=f"{message} admm; lower the learning rate"):
        run([0.1, 0.1], train_fn=lambda *_: wrap(next(losses)))


def test_error_of_a_users_function_comes_through():
    with pytest.raises(ZeroDivisionError):
        run(train_fn=lambda *_: 1 / 0)


def test_phase_without_learning_rates_calls_nothing():
    never = SimpleNamespace(param_groups=[{"lr": 0.1}])
    assert run([], optimizer=never, train_fn=None, validate_fn=None) == []


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("weights", "the weight weight is not a finite number at the end of epoch 1 of phase admm"),
        ("validation", "the validation loss is not a finite number at the end of epoch 1"),
    ],
)
def test_epoch_that_ends_broken_is_no_epoch(broken, told):
    """The last step may break weights after its loss was fine, and argmax makes class 0 of NaN."""

    def train(model, optimizer, epoch):
        if broken == "weights":
            with torch.no_grad():
                model.weight[0, 0] = float("nan")

    records = []
    loss = float("nan") if broken == "validation" else 1.0
    with pytest.raises(TrainingError, match=told):
        run(
            train_fn=train,
            validate_fn=lambda _: Evaluation(0.5, loss),
            on_epoch=records.append,
        )
    assert records == []


def trained(batches, accumulation=1):
    model = linear()
    loss = train_epoch(model, sgd(model), batches, stepping=Stepping(accumulation=accumulation))
    return model.weight.detach(), loss


def test_two_batches_in_a_step_are_one_batch_of_both():
    halves = batches_of(4, 4, 4, 4)
    whole = [tuple(map(torch.cat, zip(*halves[i : i + 2], strict=True))) for i in (0, 2)]
    (weight, loss), (expected, expected_loss) = trained(halves, 2), trained(whole)
    assert torch.allclose(weight, expected, atol=1e-7)
    assert loss == pytest.approx(expected_loss)


def test_batches_left_over_make_a_step_along_their_own_mean():
    batches, model = batches_of(4, 4, 4), linear()
    optimizer, stepping = sgd(model), Stepping(accumulation=2)
    train_epoch(model, optimizer, batches[:2], stepping=stepping)
    train_epoch(model, optimizer, batches[2:])
    assert torch.equal(trained(batches, 2)[0], model.weight)


class Waits(TorchDispatchMode):
    """Counts the single numbers that are asked of a device."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


def test_a_pass_of_evaluation_asks_the_device_for_no_single_number():
    """Its two sums are read together, in one copy."""
    with Waits() as waits:
        assert float(torch.ones(())) == 1.0
        assert waits.n == 1
        evaluate(nn.Linear(4, 3), [(torch.randn(5, 4), torch.zeros(5, dtype=torch.long))] * 3)
    assert waits.n == 1
