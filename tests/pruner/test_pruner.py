import copy
import math
import re
import warnings
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from admm_exp.admm.groups import ChannelGroup, Member
from admm_exp.admm.metrics import L2Norm, Random
from admm_exp.admm.partitions.element import Element
from admm_exp.admm.projection import ChannelConstraint
from admm_exp.admm.rho_policy import Geometric
from admm_exp.admm.state import initial_state
from admm_exp.admm.taylor import Taylor
from admm_exp.admm.update import add_penalty_gradient_, update
from admm_exp.errors import ConfigError, TrainingError
from admm_exp.pruner.pruner import ADMMPruner
from admm_exp.results import History
from admm_exp.training.batch_norm import recalibrate_
from admm_exp.training.loop import train_epoch

pytestmark = pytest.mark.filterwarnings("ignore:rho is too small")  # true of some short runs here
EXAMPLE = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(3))
SHORT = {
    "admm_iterations": 3,
    "admm_epoch": 2,
    "admm_lr": 0.05,
    "admm_decay": "constant",
    "admm_warmup": 0.0,
}


def network(seed=0):
    """Build a network whose two groups, of 6 and 8 channels, are the first two convolutions'."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def batches():
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(3, 16, 2, 6, 6, generator=generator)
    return [(x, (x.mean(dim=(1, 2, 3)) > 0).long()) for x in images]


def train_fn(model, optimizer, epoch):
    """Train with a loss of the user's own."""
    model.train()
    for x, y in batches():
        optimizer.zero_grad()
        F.multi_margin_loss(model(x), y).backward()
        optimizer.step()


def validate_fn(model):
    model.eval()
    with torch.no_grad():
        return torch.cat([model(x).argmax(dim=1) == y for x, y in batches()]).float().mean()


def pruner_of(model=None, **options):
    defaults = {
        "train_fn": train_fn,
        "validate_fn": validate_fn,
        "sparsity": 0.5,
        "rho": 0.3,
    }
    return ADMMPruner(model or network(), EXAMPLE, **(defaults | options))


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def is_same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def widths(model):
    return [m.weight.shape[0] for m in model if isinstance(m, nn.Conv2d | nn.Linear)]


def test_prune_returns_a_small_network_that_computes_what_the_masked_one_did():
    result = pruner_of().prune(**SHORT)
    assert widths(result.model) == [3, 4, 3]
    assert [(layer.channels, layer.kept) for layer in result.layers] == [(6, 3), (8, 4)]
    assert result.max_abs_difference < 1e-5
    assert len(result.iterations) == 3
    assert len(result.epochs) == 6
    assert result.model(EXAMPLE).shape == (4, 3)


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_own_loop_with_the_pruner_gives_bit_by_bit_what_prune_gives(relaxation):
    expected = pruner_of(relaxation=relaxation).prune(**SHORT).model
    model = network()
    pruner = ADMMPruner(model, EXAMPLE, sparsity=0.5, rho=0.3, relaxation=relaxation)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for iteration in range(3):
        with pruner.penalty(optimizer):
            for epoch in range(2):
                train_fn(model, optimizer, 2 * iteration + epoch)
        pruner.update()
    assert is_same(weights_of(pruner.finalize()), weights_of(expected))


def test_rho_grows_from_one_iteration_to_the_next():
    result = pruner_of(rho=0.1, rho_policy=Geometric(2.0)).prune(**SHORT)
    assert [record.rho for record in result.iterations] == pytest.approx([0.1, 0.2, 0.4])


def by_tensors(model):
    """Train on tensors alone and cut by hand: the kept rows, and the kept columns behind them."""
    (conv, norm), (conv2, norm2), linear = model[:2], model[3:5], model[8]
    W = [conv.weight, conv.bias, norm.weight, norm.bias, conv2.weight, norm2.weight, norm2.bias]
    first = ChannelGroup("0", 6, 3, tuple(Member(i, 0) for i in range(4)))
    second = ChannelGroup("3", 8, 4, tuple(Member(i, 0) for i in range(4, 7)), position=1)
    constraint = ChannelConstraint((first, second), L2Norm())
    state = initial_state(W, constraint, rho=0.3)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(3):
        for x, y in batches() * 2:
            optimizer.zero_grad()
            F.multi_margin_loss(model(x), y).backward()
            add_penalty_gradient_([w.grad for w in W], W, state.targets, state.rho)
            optimizer.step()
        state, _ = update(W, state, constraint)
    a, b = state.support
    small = weights_of(model)
    for name in ("0.weight", "0.bias", *(k for k in small if k[0] == "1" and small[k].dim())):
        small[name] = small[name][a]
    for name in ("3.weight", *(k for k in small if k[0] == "4" and small[k].dim())):
        small[name] = small[name][b]
    small["3.weight"], small["8.weight"] = small["3.weight"][:, a], linear.weight.detach()[:, b]
    return small


def test_tensors_alone_and_a_cut_by_hand_give_bit_by_bit_what_prune_gives():
    expected = pruner_of(w_step="gradient").prune(**SHORT).model
    assert is_same(by_tensors(network()), weights_of(expected))


def test_model_is_trained_in_place_and_the_small_network_is_a_copy():
    model = network()
    before = weights_of(model)
    result = pruner_of(model).prune(**SHORT)
    trained = weights_of(model)
    assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in before.items()}
    assert not torch.equal(trained["0.weight"], before["0.weight"])
    nn.init.zeros_(result.model[0].weight)
    train_fn(result.model, torch.optim.SGD(result.model.parameters(), 0.1), 0)
    assert is_same(weights_of(model), trained)


def test_finalize_leaves_the_model_as_it_is():
    model = network()
    pruner, before = pruner_of(model), weights_of(model)
    assert widths(pruner.finalize()) == [3, 4, 3]
    assert is_same(weights_of(model), before)


def test_finetuning_trains_the_small_network_only():
    model = network()
    plain = pruner_of(network()).prune(**SHORT)
    tuned = pruner_of(model).prune(**SHORT, finetune_epochs=2, lr_per="epoch")
    reference = copy.deepcopy(plain.model)
    optimizer = torch.optim.SGD(reference.parameters(), 0.01, momentum=0.9)
    for lr in (0.01, 0.005):  # cosine over two epochs
        optimizer.param_groups[0]["lr"] = lr
        train_fn(reference, optimizer, 0)
    for got, expected in zip(tuned.model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(got, expected, atol=1e-7)
    assert [phase.name for phase in tuned.phases] == ["admm", "prune", "finetune"]
    assert widths(model) == [6, 8, 3]


def test_accuracies_are_those_of_the_networks_they_are_named_after():
    seen = []

    def validate(model):
        seen.append((widths(model)[0], len(seen) / 100))
        return seen[-1][1]

    result = pruner_of(validate_fn=validate).prune(**SHORT, finetune_epochs=2)
    width_of = {accuracy: width for width, accuracy in seen}
    assert width_of[result.accuracy_before_cut] == 6
    assert width_of[result.accuracy_after_cut] == width_of[result.accuracy] == 3
    accuracies = [result.accuracy_before_cut, result.accuracy_after_cut, result.accuracy]
    assert accuracies == [0.09, 0.1, 0.12]  # 6 epochs and 3 projections come before


@pytest.mark.parametrize("finetune_epochs", [0, 2])
def test_accuracy_is_that_of_the_network_returned(finetune_epochs):
    result = pruner_of().prune(**SHORT, finetune_epochs=finetune_epochs)
    assert result.accuracy == pytest.approx(float(validate_fn(result.model)))


def test_recalibration_replaces_the_statistics_of_the_small_network_and_reports_both():
    pruner = pruner_of()
    result = pruner.prune(**SHORT, recalibrate_on=batches())
    plain = pruner.finalize()
    assert result.accuracy_after_cut == float(validate_fn(plain))
    recalibrate_(plain, batches())
    assert is_same(weights_of(plain), weights_of(result.model))
    assert result.accuracy == result.accuracy_recalibrated == float(validate_fn(plain))


def test_without_recalibration_there_is_no_such_accuracy():
    assert pruner_of().prune(**SHORT).accuracy_recalibrated is None


def test_finetuning_warms_up_as_asked():
    result = pruner_of().prune(
        **SHORT,
        finetune_epochs=3,
        finetune_lr=0.3,
        finetune_decay="constant",
        finetune_warmup=0.67,
        lr_per="epoch",
    )
    assert [r.lr for r in result.epochs[-3:]] == pytest.approx([0.1, 0.2, 0.3])


def test_learning_rates_of_both_phases_follow_the_step():
    seen = []

    def spy(model, optimizer, epoch):
        lrs = optimizer.param_groups[0]
        for x, y in batches():
            seen.append(lrs["lr"])
            optimizer.zero_grad()
            F.multi_margin_loss(model(x), y).backward()
            optimizer.step()

    settings = SHORT | {"admm_decay": "cosine", "admm_warmup": 0.2, "steps_per_epoch": 3}
    settings |= {"finetune_epochs": 2, "finetune_lr": 0.03, "finetune_warmup": 0.0}
    pruner_of(train_fn=spy).prune(**settings)
    admm, finetune = seen[:18], seen[18:]
    assert admm[:5] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])  # 20 % of 6 epochs of 3 steps
    assert all(after < before for before, after in pairwise(admm[4:]))
    expected = [0.03 * 0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert finetune == pytest.approx(expected)


def test_epochs_count_on_over_the_phases():
    seen = []

    def spy(model, optimizer, epoch):
        seen.append(epoch)
        train_fn(model, optimizer, epoch)

    result = pruner_of(train_fn=spy).prune(2, 2, finetune_epochs=3)
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    assert [(r.phase, r.epoch) for r in result.epochs[3:5]] == [("admm", 4), ("finetune", 1)]


def test_own_observer_sees_what_the_result_holds():
    observer = History()
    result = pruner_of().prune(**SHORT, finetune_epochs=1, observer=observer)
    assert tuple(observer.epochs) == result.epochs
    assert tuple(observer.iterations) == result.iterations
    assert tuple(observer.phases) == result.phases


def test_cut_follows_the_support_of_z_and_does_not_rank_w_again():
    model = network()
    pruner = pruner_of(model)
    pruner.update()
    kept = pruner.state.support[0]
    with torch.no_grad():
        model[0].weight[~kept] *= 100.0  # W alone would now keep the others
    assert torch.equal(pruner.finalize()[0].weight, model[0].weight[kept])


def test_random_is_drawn_once_and_the_cut_uses_that_draw():
    model = network()
    result = pruner_of(model, metric=Random(seed=11)).prune(**SHORT)
    scores = Random(seed=11)(torch.empty(6, 0), ChannelGroup("0", 6, 3, (), position=0))
    kept = scores.argsort(descending=True)[:3].sort().values
    assert torch.equal(result.model[0].weight, model[0].weight[kept])
    assert [record.support_change for record in result.iterations] == [0.0] * 3


def test_auto_rho_comes_from_the_learning_rates_and_the_momentum():
    result = pruner_of(rho="auto").prune(**SHORT, steps_per_epoch=3)
    assert result.iterations[0].rho == pytest.approx(9.2 * (1 - 0.9) / (6 * 3 * 0.05))


def test_auto_rho_takes_an_optimizer_without_momentum_for_what_it_is():
    pruner = pruner_of(rho="auto", optimizer_fn=torch.optim.SGD)
    result = pruner.prune(3, 2, 0.01, admm_decay="thirds", admm_warmup=0.0, steps_per_epoch=3)
    assert result.iterations[0].rho == pytest.approx(9.2 / (3 * 2 * (0.01 + 0.001 + 0.0001)))


RESCALING = [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]


@pytest.mark.parametrize("rho", ["auto", 0.5])
@pytest.mark.parametrize("optimizer_fn", RESCALING)
def test_a_pull_through_rescaled_gradients_is_refused(optimizer_fn, rho):
    options = {"rho": rho, "optimizer_fn": optimizer_fn, "train_fn": pytest.fail}
    pruner = pruner_of(**options, w_step="gradient")
    with pytest.raises(ConfigError, match=r"gradients, which \w+ rescales, .*w_step='proximal'"):
        pruner.prune(3, 2, 0.01, steps_per_epoch=3)


class SignSteps(torch.optim.Optimizer):
    """An optimizer of somebody's own that takes the sign of every gradient."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(p.grad.sign(), alpha=group["lr"])


def test_an_optimizer_of_ones_own_that_rescales_is_refused_by_what_it_does():
    options = {"rho": 0.5, "optimizer_fn": SignSteps, "train_fn": pytest.fail}
    pruner = pruner_of(**options, w_step="gradient")
    with pytest.raises(ConfigError, match=r"gradients, which SignSteps rescales"):
        pruner.prune(3, 2, 0.01)


def test_an_optimizer_of_ones_own_is_pulled_by_default():
    result = pruner_of(rho=20.0, optimizer_fn=SignSteps).prune(3, 2, 0.01)
    assert result.iterations[-1].dead_energy < 0.1


@pytest.mark.parametrize("w_step", ["proximal", "reduced"])
@pytest.mark.parametrize("optimizer_fn", RESCALING)
def test_a_number_for_rho_pulls_as_far_with_rescaling_optimizers(optimizer_fn, w_step):
    options = {"optimizer_fn": optimizer_fn, "w_step": w_step}
    strong = pruner_of(rho=20.0, **options).prune(3, 2, 0.01).iterations[-1].dead_energy
    weak = pruner_of(rho=1e-3, **options).prune(3, 2, 0.01)
    assert strong < 0.1 < weak.iterations[-1].dead_energy


def test_joint_learning_rates_fall_once_over_admm_and_finetuning():
    result = pruner_of().prune(
        2,
        1,
        0.1,
        admm_decay="joint",
        lr_per="epoch",
        finetune_epochs=4,
        finetune_lr=0.1,
        steps_per_epoch=3,
        admm_warmup=0.0,
    )
    whole = [0.1 * 0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert [epoch.lr for epoch in result.epochs] == pytest.approx(whole)


def test_auto_rho_suits_adam_like_optimizers():
    pruner = pruner_of(rho="auto", optimizer_fn=torch.optim.AdamW)
    result = pruner.prune(3, 2, 0.01, admm_decay="constant", admm_warmup=0.0, steps_per_epoch=3)
    # 18 steps divide by 1 + lr * rho each, by exp(9.2) together
    assert 18 * math.log(1 + 0.01 * result.iterations[0].rho) == pytest.approx(9.2)
    assert result.stopped.pull == pytest.approx(9.2)
    assert result.iterations[-1].dead_energy < 0.02


def test_a_rho_that_is_too_small_is_a_warning():
    with pytest.warns(UserWarning, match=r"^rho is too small: .* try rho=1$"):
        pruner_of(relaxation=1.6).prune(**SHORT)


def test_own_loop_takes_the_form_of_the_w_step():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    pruner, before = pruner_of(model, w_step="proximal"), weights_of(model)
    optimizer.param_groups[0]["lr"] = 1.0
    with pruner.penalty(optimizer) as count:
        optimizer.step()  # no gradient: what moves W is the pull
    assert count.n == 1
    expected = (before["0.weight"] + 0.3 * pruner.state.targets[0]) / 1.3
    assert torch.allclose(model[0].weight, expected)


def test_own_loop_in_the_reduced_form_lets_kept_units_go():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    pruner, before = pruner_of(model), weights_of(model)
    kept = pruner.state.support[0]
    for _ in range(2):
        with torch.no_grad():
            model[0].weight += 1.0  # what training might do
        with pruner.penalty(optimizer):
            optimizer.step()
        residuals = pruner.update()
    assert torch.allclose(model[0].weight[kept], before["0.weight"][kept] + 2.0)
    assert not torch.allclose(model[0].weight[~kept], before["0.weight"][~kept] + 2.0, atol=0.1)
    assert torch.equal(pruner.state.support[0], kept)
    assert residuals.dual_residual == 0.0  # Z followed W, no unit came or went


def test_own_loop_pulls_after_the_step_of_a_rescaling_optimizer():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1.0, weight_decay=0.0)
    pruner, before = pruner_of(model), weights_of(model)
    with pruner.penalty(optimizer):
        optimizer.step()  # no gradient: AdamW leaves the weights, the pull does not
    expected = (before["0.weight"] + 0.3 * pruner.state.targets[0]) / 1.3
    assert torch.allclose(model[0].weight, expected)


@pytest.mark.parametrize(
    ("rho", "w_step", "message"),
    [
        (0.1, "gradient", r"^rho is too small: .* w_step=gradient\): try rho=2.3$"),
        (5.0, "gradient", r"^w_step=gradient does not bring .* take w_step=proximal"),
        (5.0, "proximal", r"faster than rho pulls them: .* lower the learning rate"),
    ],
)
def test_own_loop_is_told_once_of_a_support_that_flips(rho, w_step, message):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruner, told = pruner_of(model, rho=rho, w_step=w_step), []
    for iteration in range(5):
        with pruner.penalty(optimizer):
            for _ in range(10):
                optimizer.step()
        with torch.no_grad():
            model[0].weight.copy_(torch.eye(6, 18).roll(2 * iteration, 0).view(6, 2, 3, 3) * 99 + 9)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pruner.update()
        told += [str(warning.message) for warning in caught]
    assert len(told) == 1
    assert re.search(message, told[0])


def test_own_loop_is_told_of_constrained_weights_with_learning_rate_0():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1:].parameters()}]
    optimizer = torch.optim.SGD(groups, 0.1)
    with (
        pytest.warns(UserWarning, match=r"learning rate of 0\.weight and 1 more was 0 in every"),
        pruner_of(model).penalty(optimizer),
    ):
        optimizer.step()


def test_own_loop_whose_learning_rate_starts_at_0_is_not_told():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with pruner_of(model).penalty(optimizer) as steps:
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
    assert (steps.n, steps.still) == (2, ())


def test_a_form_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"w_step must be one of gradient, .*, got 'adam'"):
        pruner_of(w_step="adam")


def test_the_result_says_what_ended_admm():
    rule = {"stopping": "support", "stable_iterations": 2}
    pruner = pruner_of(rho=5.0, optimizer_fn=torch.optim.SGD, **rule)
    result = pruner.prune(6, 1, 0.05)
    stopped = result.stopped
    assert stopped.reason == "support"
    assert stopped.iteration == len(result.iterations) < 6
    assert stopped.epochs_saved == 6 - len(result.epochs)


def test_auto_rho_needs_steps_per_epoch():
    with pytest.raises(ConfigError, match=r"rho=auto needs .*: give steps_per_epoch$"):
        pruner_of(rho="auto", train_fn=pytest.fail).prune(**SHORT)


def test_auto_rho_is_refused_in_an_own_loop():
    model = network()
    with pytest.raises(ConfigError, match="rho=auto needs the learning rates of the whole"):
        pruner_of(model, rho="auto").penalty(torch.optim.SGD(model.parameters(), 0.1))


@pytest.mark.parametrize("rho", [0, -1.0, float("nan"), float("inf"), True, "large", None])
def test_rho_that_is_no_positive_number_is_refused(rho):
    with pytest.raises(ConfigError, match=r"^rho must be a number greater than 0 or 'auto', got"):
        pruner_of(rho=rho)


def test_rho_above_one_is_allowed():
    assert pruner_of(rho=5).state.rho == 5.0


@pytest.mark.parametrize("returned", ["0.93", "good", None])
def test_validate_fn_that_returns_no_number_is_an_error(returned):
    with pytest.raises(TrainingError, match=r"^validate_fn must return an accuracy as a number"):
        pruner_of(validate_fn=lambda model: returned).prune(**SHORT)


def test_train_fn_that_never_steps_is_one_sentence():
    def forward_only(model, optimizer, epoch):
        for x, y in batches():
            F.cross_entropy(model(x), y).backward()

    with pytest.raises(TrainingError, match=r"^the train function never stepped .*: call step\(\)"):
        pruner_of(train_fn=forward_only).prune(**SHORT)


@pytest.mark.parametrize(("epoch", "where"), [(3, "4 of phase admm"), (7, "2 of phase finetune")])
def test_nan_loss_names_phase_epoch_and_step(epoch, where):
    def diverges(model, optimizer, now):
        data = batches()
        if now == epoch:
            data[1][0][0] = float("nan")
        return train_epoch(model, optimizer, data)

    with pytest.raises(
        TrainingError, match=f"^training diverged: .* at step 2 of epoch {where}; lower"
    ):
        pruner_of(train_fn=diverges).prune(**SHORT, finetune_epochs=2)


@pytest.mark.parametrize("missing", ["train_fn", "validate_fn"])
def test_prune_without_its_functions_says_which_it_needs(missing):
    with pytest.raises(ConfigError, match=r"^prune\(\) needs train_fn and validate_fn"):
        pruner_of(**{missing: None}).prune(**SHORT)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"admm_iterations": 0}, "admm_iterations must be at least 1, got 0"),
        ({"admm_epoch": 0}, "admm_epoch must be at least 1, got 0"),
        ({"admm_lr": 0.0}, "admm_lr must be greater than 0, got 0.0"),
        (
            {"admm_decay": "none"},
            "admm_decay must be one of constant, cosine, joint, thirds, got 'none'",
        ),
        ({"admm_warmup": 1.0}, r"admm_warmup must be in \[0, 1\), got 1.0"),
        ({"lr_per": "batch"}, "lr_per must be one of step, epoch, got 'batch'"),
        ({"finetune_warmup": -0.1}, r"finetune_warmup must be in \[0, 1\), got -0.1"),
        ({"finetune_epochs": -1}, "finetune_epochs must be at least 0, got -1"),
        ({"finetune_lr": -0.1}, "finetune_lr must be greater than 0, got -0.1"),
        ({"finetune_decay": "thirds"}, "decay must be constant, cosine or step, got 'thirds'"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
    ],
)
def test_bad_setting_is_refused_before_anything_is_trained(setting, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        pruner_of(train_fn=pytest.fail).prune(**(SHORT | setting))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sparsity_ramp": 1.1}, r"sparsity_ramp must be in \[0, 1\], got 1.1"),
        ({"stopping": "never"}, "stopping must be one of budget, residuals, support, got 'never'"),
        ({"stable_iterations": 0}, "stable_iterations must be at least 1, got 0"),
        ({"relaxation": 2.0}, r"relaxation must be in \(0, 2\), got 2.0"),
    ],
)
def test_bad_setting_of_the_pruner_is_refused(setting, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        pruner_of(**setting)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stopping", "support"),
        ("sparsity_ramp", 0.5),
        ("freeze_support", True),
        ("rho_policy", Geometric(2.0)),
    ],
)
def test_own_loop_refuses_what_prune_alone_obeys(name, value):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ConfigError, match=rf"^{name} is obeyed by prune\(\) alone"):
        pruner_of(model, **{name: value}).penalty(optimizer)


def test_prune_shows_a_line_a_phase_and_can_be_silent(capsys):
    pruner_of().prune(**SHORT, finetune_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["admm", "prune", "finetune"]
    assert "if cut now" in lines[0]
    pruner_of().prune(**SHORT, show_progress=False)
    assert capsys.readouterr().out == ""


def test_a_warning_is_told_once(capsys):
    with pytest.warns(UserWarning, match="^rho is too small"):
        pruner_of(relaxation=1.6).prune(**SHORT)
    assert "rho is too small" not in capsys.readouterr().out


def test_result_prints_in_four_lines():
    lines = str(pruner_of().prune(**SHORT, recalibrate_on=batches())).splitlines()
    assert len(lines) == 4
    assert re.match(r"accuracy  before the cut [\d.]+%, after it [\d.]+%, recalib", lines[0])
    assert lines[1] == "kept      7 of 14 channels in 2 groups"
    assert lines[3] == "ADMM      3 iterations, ended by budget"


def test_result_plots_accuracies_and_groups():
    result = pruner_of().prune(**SHORT, finetune_epochs=1)
    figure = result.plot()
    texts = {text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text"))}
    assert "7 of 14 channels kept, 38% of their layers' multiply-adds" in texts
    assert {"before the cut", "after the cut", "finetuned", " 3 / 6", " 4 / 8"} <= texts
    assert f"{result.accuracy:.2%}" in texts


def test_work_of_a_group_is_that_of_its_layers():
    first, second = pruner_of().prune(**SHORT).layers
    assert (first.macs, first.kept_macs) == (6 * 2 * 9 * 16, 3 * 2 * 9 * 16)
    assert (second.macs, second.kept_macs) == (8 * 6 * 9 * 4, 4 * 3 * 9 * 4)


def test_sparsity_may_differ_by_layer():
    pruner = pruner_of(sparsity={"0": 0.0, "default": 0.75})
    assert widths(pruner.finalize()) == [6, 2, 3]


def test_sparsity_of_an_unknown_layer_is_refused():
    with pytest.raises(ConfigError, match="unknown layer 'conv9'"):
        pruner_of(sparsity={"conv9": 0.5})


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan")])
def test_sparsity_outside_0_and_1_is_refused(sparsity):
    with pytest.raises(ConfigError, match=r"sparsity .*must be a number in \[0, 1\), got"):
        pruner_of(sparsity=sparsity)


def test_one_channel_stays_at_any_sparsity():
    assert widths(pruner_of(sparsity=0.999).finalize()) == [1, 1, 3]


def test_update_returns_the_residuals_of_the_new_state():
    pruner = pruner_of(relaxation=1.6)
    residuals = pruner.update()
    assert pruner.state.iteration == 1
    assert residuals.primal_residual > 0
    assert residuals.rho == pruner.state.rho == 0.3


def test_single_weights_are_masked_and_stay_zero_through_finetuning():
    pruner = pruner_of(granularity=Element(), sparsity=0.8)
    result = pruner.prune(admm_iterations=2, admm_epoch=1, finetune_epochs=2)
    layers = [m for m in result.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for row, layer in zip(result.layers, layers, strict=True):
        assert int((layer.weight == 0).sum()) == row.channels - row.kept == int(0.8 * row.channels)
    assert result.max_abs_difference == 0.0


def test_excluded_layers_stay_whole_and_others_keep_multiples():
    result = pruner_of(exclude=["0"], channel_multiple=3).prune(**SHORT)
    assert widths(result.model) == [6, 3, 3]
    with pytest.raises(ConfigError, match=r"^channel_multiple must be at least 1, got 0$"):
        pruner_of(channel_multiple=0)


def test_metric_that_reads_gradients_gets_them_from_prune_and_from_nothing_else():
    pruner = pruner_of(metric=Taylor(batches=2))
    with pytest.raises(ConfigError, match="Taylor scores by gradients that it has not seen"):
        pruner.penalty(torch.optim.SGD(network().parameters(), 0.1))
    assert widths(pruner.prune(**SHORT).model) == [3, 4, 3]
