import re

import pytest
import torch
import torch.nn.functional as F
from support.toy import (
    accuracy_of,
    batches,
    functions_of,
    is_same,
    mlp,
    sgd,
    train_fn,
    weights_of,
)

from admm_exp.admm.metrics import L2Norm
from admm_exp.admm.rho_policy import Constant, Geometric, SupportDriven
from admm_exp.admm.settings import AdmmSettings
from admm_exp.errors import TrainingError
from admm_exp.phases.admm import train_admm
from admm_exp.phases.admm_course import AdmmCourse
from admm_exp.pruning.constrained import ConstrainedModel
from admm_exp.results import History, kept_units
from admm_exp.training.learning_rate import listed
from admm_exp.training.loop import train_epoch


def course_of(lrs=(0.05,) * 6, admm_iterations=3, rho_policy=None, **settings):
    settings = AdmmSettings(admm_iterations, len(lrs) // admm_iterations, max(lrs), **settings)
    return AdmmCourse(settings, rho_policy or Constant(), listed(lrs))


def constrained_of(model, rho=0.5):
    return ConstrainedModel(
        model, batches()[0][0], sparsity=0.6, metric=L2Norm(), rho=rho, by_layer=None
    )


def run(model=None, lrs=(0.05,) * 6, rho=0.5, functions=None, offset=0, **settings):
    constrained = constrained_of(model or mlp(), rho)
    functions = functions or functions_of()
    stopped = train_admm(constrained, course_of(lrs, **settings), functions, offset)
    return constrained, functions.observer, stopped


def best_units(W, b):
    """Mark the two hidden units with the largest sum of squares over weights and bias."""
    scores = [float(row.square().sum() + bias.square()) for row, bias in zip(W, b, strict=True)]
    best = sorted(range(5), key=lambda unit: -scores[unit])[:2]
    return torch.tensor([unit in best for unit in range(5)])


def project(W, b):
    kept = best_units(W, b)
    return [W * kept.unsqueeze(1), b * kept]


def by_hand(model, lr, rho, growth, relaxation, is_reduced=False):
    """Train three iterations of two epochs with the penalty in the loss and Z, U apart.

    In the reduced form Z of the kept units is W all the time.
    """
    optimizer, W = sgd(model.parameters(), lr), [model[0].weight, model[0].bias]
    Z, U = project(*[w.detach() for w in W]), [torch.zeros_like(w) for w in W]
    for iteration in range(3):
        if iteration:
            rho, U = rho * growth, [u / growth for u in U]
        for x, y in batches() * 2:
            optimizer.zero_grad()
            if is_reduced:
                Z = [torch.where(z != 0, w, 0.0) for w, z in zip(W, Z, strict=True)]
            distance = [(w - z + u).square().sum() for w, z, u in zip(W, Z, U, strict=True)]
            (F.cross_entropy(model(x), y) + rho / 2 * sum(distance)).backward()
            optimizer.step()
        if is_reduced:
            Z = [torch.where(z != 0, w, 0.0).detach() for w, z in zip(W, Z, strict=True)]
        a = relaxation
        triples = zip(W, Z, U, strict=True)
        X = [a * w.detach() + (1 - a) * z + u for w, z, u in triples]
        Z = project(*X)
        U = [x - z for x, z in zip(X, Z, strict=True)]
    return Z


@pytest.mark.parametrize("w_step", ["gradient", "reduced"])
@pytest.mark.parametrize(("growth", "relaxation"), [(1.0, 1.0), (1.5, 1.0), (1.0, 1.6), (1.5, 1.6)])
def test_phase_trains_as_a_loop_with_the_penalty_in_the_loss(growth, relaxation, w_step):
    model, reference = mlp(), mlp()
    constrained, _, _ = run(
        model, rho_policy=Geometric(growth), relaxation=relaxation, w_step=w_step
    )
    Z = by_hand(reference, 0.05, 0.5, growth, relaxation, w_step == "reduced")
    for got, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(got, expected, atol=1e-5)
    assert constrained.state.support[0].tolist() == (Z[1] != 0).tolist()


def test_a_reached_dual_holds_less_of_what_short_iterations_leave():
    lengths = []
    for dual_step in ("full", "reached"):
        constrained, history, _ = run(rho=0.05, dual_step=dual_step)
        removed = [
            ~m
            for m in constrained.constraint.masks(constrained.weights(), constrained.state.support)
        ]
        U = [t[m.expand_as(t)] for t, m in zip(constrained.state.targets, removed, strict=True)]
        lengths.append(float(torch.cat(U).norm()))
        assert history.iterations[-1].dual_ratio > 0
    assert 0 < lengths[1] < 0.5 * lengths[0]


def test_units_to_be_cut_lose_their_energy():
    pulled, history, _ = run(lrs=(0.05,) * 40, rho=0.3, admm_iterations=10)
    assert history.iterations[-1].dead_energy < 0.02
    untouched, _, _ = run(lrs=(0.05,) * 40, rho=1e-6, admm_iterations=10)
    dead = [
        float(c.model[0].weight[~c.state.support[0]].detach().norm()) for c in (pulled, untouched)
    ]
    assert dead[0] < 0.2 * dead[1]


def plain_sgd(parameters, lr):
    return torch.optim.SGD(parameters, lr)


def test_masked_iterations_train_the_kept_units_with_the_others_at_zero():
    model, reference = mlp(), mlp()
    functions = functions_of(optimizer_fn=plain_sgd)
    constrained, history, stopped = run(model, functions=functions, masked_share=0.34)  # 1 of 3
    pulled, _, _ = run(
        reference, (0.05,) * 4, functions=functions_of(optimizer_fn=plain_sgd), admm_iterations=2
    )
    kept, optimizer = pulled.state.support[0], plain_sgd(reference.parameters(), 0.05)
    masks = {"0.weight": kept.unsqueeze(1), "0.bias": kept}
    for x, y in [(None, None), *batches() * 2]:
        if x is not None:
            optimizer.zero_grad()
            F.cross_entropy(reference(x), y).backward()
            optimizer.step()
        for name, mask in masks.items():
            reference.get_parameter(name).data.mul_(mask)
    assert is_same(weights_of(model), weights_of(reference))
    assert constrained.state.support[0].equal(kept)
    assert history.iterations[-1].primal_residual == 0.0 < history.iterations[-2].primal_residual
    assert stopped.masked == 1


@pytest.mark.parametrize(
    ("share", "zeros"),
    [(0.34, [0, 0, 2, 2, 3, 3]), (0.0, [0] * 6)],  # 0.34: the last of three iterations is masked
)
def test_units_removed_twice_stay_at_zero_while_the_sparsity_rises(share, zeros):
    seen = []

    def spy(model, optimizer, epoch):
        train_fn(model, optimizer, epoch)
        seen.append(sum(not row.any() for row in model[0].weight.detach()))

    model = mlp()
    run(model, functions=functions_of(train_fn=spy), masked_share=share, sparsity_ramp=1.0)
    assert seen == zeros


def test_a_unit_that_was_removed_once_alone_is_still_pulled():
    constrained = constrained_of(mlp())
    constrained.loosen(0.7)  # 2 of the 3 units to be removed
    first = constrained.state.support[0]
    constrained.update()
    now = constrained.state.support[0]
    assert int((first & ~now).sum()) == 1
    assert constrained.settled_removal().support[0].equal(first | now)


def test_train_function_with_its_own_loss_trains_with_admm():
    def regression(model, optimizer, epoch):
        for x, _ in batches():
            optimizer.zero_grad()
            F.huber_loss(model(x), x[:, :3].sin()).backward()
            optimizer.step()

    functions = functions_of(train_fn=regression, validate_fn=lambda model: 0.0)
    _, history, _ = run(lrs=(0.05,) * 40, rho=0.3, admm_iterations=10, functions=functions)
    assert history.iterations[-1].dead_energy < 0.02


def test_rho_grows_by_its_factor_and_the_first_iteration_has_the_given_one():
    constrained, history, _ = run(rho=0.2, rho_policy=Geometric(2.0))
    assert [record.rho for record in history.iterations] == pytest.approx([0.2, 0.4, 0.8])
    assert constrained.rho == pytest.approx(0.8)


def test_every_iteration_leaves_a_record_with_the_residuals_of_its_update():
    constrained, history, _ = run()
    assert [record.iteration for record in history.iterations] == [1, 2, 3]
    W = torch.cat([w.flatten() for w in constrained.weights()])
    masks = constrained.constraint.masks(constrained.weights(), constrained.state.support)
    Z = torch.cat(
        [(t * m).flatten() for t, m in zip(constrained.state.targets, masks, strict=True)]
    )
    assert history.iterations[-1].primal_residual == pytest.approx(float((W - Z).norm()), rel=1e-5)


def test_a_record_tells_which_units_of_every_group_were_kept():
    constrained, history, _ = run()
    support = history.iterations[-1].support
    for digits, kept in zip(support, constrained.state.support, strict=True):
        assert kept_units(digits, len(kept)) == kept.tolist()


def test_observer_sees_start_epochs_iterations_and_end_in_order():
    class Diary(History):
        def __init__(self):
            super().__init__()
            self.lines = []

        def phase_started(self, name, epochs):
            self.lines.append((name, epochs))

        def epoch_finished(self, record):
            self.lines.append(record.epoch)

        def iteration_finished(self, record):
            self.lines.append(f"iteration {record.iteration}")

        def phase_finished(self, result):
            self.lines.append(result)

    _, diary, _ = run(lrs=(0.05,) * 4, admm_iterations=2, functions=functions_of(Diary()))
    result = diary.lines.pop()
    assert diary.lines == [("admm", 4), 1, 2, "iteration 1", 3, 4, "iteration 2"]
    assert (result.name, result.epochs, result.cached) == ("admm", 4, False)


def test_train_function_sees_each_learning_rate_and_epochs_of_the_whole_run():
    seen = []

    def spy(model, optimizer, epoch):
        seen.append((epoch, optimizer.param_groups[0]["lr"]))
        train_fn(model, optimizer, epoch)

    run(
        lrs=(0.3, 0.2, 0.1, 0.05),
        admm_iterations=2,
        offset=30,
        functions=functions_of(train_fn=spy),
    )
    assert seen == [(30, 0.3), (31, 0.2), (32, 0.1), (33, 0.05)]


def test_one_optimizer_goes_through_all_iterations():
    built, used = [], []

    def build(parameters, lr):
        built.append((sgd(parameters, lr), lr))
        return built[0][0]

    def spy(model, optimizer, epoch):
        used.append(optimizer)
        train_fn(model, optimizer, epoch)

    run(lrs=(0.3, 0.1, 0.1), functions=functions_of(optimizer_fn=build, train_fn=spy))
    assert [lr for _, lr in built] == [0.3]
    assert all(optimizer is built[0][0] for optimizer in used)
    assert len(used) == 3


def test_train_function_that_never_steps_the_optimizer_is_an_error():
    def own_optimizer(model, optimizer, epoch):
        train_fn(model, sgd(model.parameters(), 0.1), epoch)

    with pytest.raises(TrainingError, match="never stepped the optimizer it was given"):
        run(functions=functions_of(train_fn=own_optimizer))


def test_divergence_names_phase_epoch_step_and_learning_rate():
    def diverges(model, optimizer, epoch):
        data = batches()
        if epoch == 13:
            data[2][0][0, 0] = float("nan")
        return train_epoch(model, optimizer, data)

    message = r"at step 3 of epoch 4 of phase admm; lower the learning rate \(0\.05\)$"
    with pytest.raises(TrainingError, match=message):
        run(functions=functions_of(train_fn=diverges), offset=10)


def test_weights_that_became_nan_unseen_name_the_epoch():
    def breaks(model, optimizer, epoch):
        train_fn(model, optimizer, epoch)
        if epoch == 3:
            with torch.no_grad():
                model[0].weight[0, 0] = float("nan")

    message = r"0\.weight is not .* at the end of epoch 4 of phase admm; lower .* \(0\.05\)$"
    with pytest.raises(TrainingError, match=message):
        run(functions=functions_of(train_fn=breaks))


def test_validation_is_that_of_the_network_after_its_epoch():
    seen = []

    def validate(model):
        seen.append(float(accuracy_of(model)))
        return seen[-1]

    constrained, history, _ = run(functions=functions_of(validate_fn=validate))
    each = 2 + 1  # epochs of an iteration, and the projected network after them
    of_epochs = [value for i, value in enumerate(seen) if i % each != each - 1]
    assert [record.val_accuracy for record in history.epochs] == of_epochs
    assert of_epochs[-1] == float(accuracy_of(constrained.model))
    assert [r.projected_val_accuracy for r in history.iterations] == seen[each - 1 :: each]
    assert [r.val_accuracy for r in history.iterations] == of_epochs[1::2]


def test_same_start_gives_the_same_weights_bit_by_bit():
    first, again = mlp(), mlp()
    run(first)
    run(again)
    assert all(map(torch.equal, weights_of(first).values(), weights_of(again).values()))


def test_sparsity_ramp_removes_more_and_more_and_ends_with_all():
    counts = []

    class Spy(History):
        def iteration_finished(self, record):
            counts.append(int(self.constrained.state.support[0].sum()))

    spy = Spy()
    spy.constrained = constrained = constrained_of(mlp())
    train_admm(constrained, course_of((0.05,) * 6, sparsity_ramp=1.0), functions_of(spy))
    # of 3 units to be removed, iterations 1 to 3 pull on floor(3 * (19, 26, 27) / 27)
    assert counts == [5 - 2, 5 - 3, 5 - 3]


def test_first_w_step_of_a_ramp_pulls_on_its_own_share():
    seen = []

    def spy(model, optimizer, epoch):
        seen.append(int(constrained.state.support[0].sum()))
        train_fn(model, optimizer, epoch)

    constrained = constrained_of(mlp())
    course = course_of((0.05,) * 3, sparsity_ramp=1.0)
    train_admm(constrained, course, functions_of(train_fn=spy))
    assert seen == [5 - 2, 5 - 2, 5 - 3]


def test_stable_support_ends_the_phase_and_the_epochs_saved_are_counted():
    _, history, stopped = run(
        lrs=(0.01,) * 12, rho=1.0, admm_iterations=6, stopping="support", stable_iterations=2
    )
    assert [r.support_change for r in history.iterations] == [0.0, 0.0]
    assert (stopped.reason, stopped.iteration, stopped.epochs_saved) == ("support", 2, 8)
    assert history.phases[-1].epochs == len(history.epochs) == 4


def test_small_residuals_end_the_phase_as_soon_as_both_are():
    _, history, stopped = run(
        lrs=[0.2 * 0.9**epoch for epoch in range(60)],
        rho=1.0,
        admm_iterations=30,
        stopping="residuals",
        functions=functions_of(optimizer_fn=torch.optim.SGD),
    )
    is_small = [
        r.primal_residual <= r.eps_primal and r.dual_residual <= r.eps_dual
        for r in history.iterations
    ]
    assert stopped.reason == "residuals"
    assert is_small == [False] * (stopped.iteration - 1) + [True]


def test_after_a_reduced_step_the_dual_residual_counts_exchanged_units_alone():
    constrained = constrained_of(mlp())
    (kept,) = constrained.state.support
    for weight in constrained.weights():
        weight.mul_(2.0)
    still = constrained.update(w_step="reduced")
    for weight in constrained.weights():
        weight[kept] = 0.0
    exchanged = constrained.update(w_step="reduced")
    assert (still.support_change, still.dual_residual) == (0.0, 0.0)
    assert exchanged.support_change == 1.0
    assert exchanged.dual_residual > exchanged.eps_dual > 0.0


def test_all_iterations_end_the_phase_by_its_budget():
    _, history, stopped = run()
    assert (stopped.reason, stopped.iteration, stopped.epochs_saved) == ("budget", 3, 0)
    assert len(history.iterations) == 3


def test_frozen_support_stays_where_it_would_have_moved():
    """The units to be cut are pushed up from iteration 3 on, which moves a support left free."""

    def push(model, optimizer, epoch):
        train_fn(model, optimizer, epoch)
        if epoch >= 4:
            with torch.no_grad():
                model[0].weight[~first] = 9.0

    supports = {}
    for is_frozen in (False, True):
        model = mlp()
        first = constrained_of(model, 5.0).state.support[0]
        constrained, history, _ = run(
            model,
            lrs=(0.01,) * 10,
            rho=5.0,
            admm_iterations=5,
            stable_iterations=2,
            freeze_support=is_frozen,
            functions=functions_of(train_fn=push),
        )
        assert [r.support_change for r in history.iterations[:2]] == [0.0, 0.0]
        supports[is_frozen] = torch.equal(constrained.state.support[0], first)
    assert supports == {False: False, True: True}


def test_policy_that_reads_residuals_gets_those_of_all_iterations_so_far():
    _, history, _ = run(lrs=(0.05,) * 6, rho=0.1, rho_policy=SupportDriven(4.0, 3.0, 2.0))
    rhos = [record.rho for record in history.iterations]
    changes = [record.support_change for record in history.iterations]
    factors = [4.0 if c > 0.1 else 3.0 if c > 0.005 else 2.0 for c in changes]
    assert rhos == pytest.approx([0.1, 0.1 * factors[0], 0.1 * factors[0] * factors[1]])


def test_projected_accuracy_is_that_of_the_masked_network_after_recalibration():
    recalibrated = []

    def recalibrate(model):
        recalibrated.append(model)
        with torch.no_grad():
            model[2].bias += torch.tensor([50.0, 0.0, 0.0])  # every answer is class 0

    constrained, history, _ = run(functions=functions_of(recalibrate_fn=recalibrate))
    share_of_0 = float(torch.cat([y == 0 for _, y in batches()]).float().mean())
    assert [r.projected_val_accuracy for r in history.iterations] == pytest.approx([share_of_0] * 3)
    assert all(model is not constrained.model for model in recalibrated)
    kept = constrained.state.support[0]
    assert not recalibrated[-1][0].weight[~kept].any()
    assert torch.equal(recalibrated[-1][0].weight[kept], constrained.model[0].weight[kept])


def test_diagnostics_leave_training_as_it_is_bit_by_bit():
    def noisy(model, optimizer, epoch):
        for x, y in batches():
            optimizer.zero_grad()
            F.cross_entropy(model(x + 0.1 * torch.randn_like(x)), y).backward()
            optimizer.step()

    def draws(model):
        torch.randn(7)

    plain, diagnosed = mlp(), mlp()
    torch.manual_seed(3)
    run(plain, functions=functions_of(train_fn=noisy))
    torch.manual_seed(3)
    run(diagnosed, functions=functions_of(train_fn=noisy, recalibrate_fn=draws))
    assert all(map(torch.equal, weights_of(plain).values(), weights_of(diagnosed).values()))


def test_flipping_support_is_told_once_with_the_numbers_and_a_rho_to_try():
    def swings(model, optimizer, epoch):
        optimizer.step()
        with torch.no_grad():
            model[0].weight.copy_(torch.eye(5, 6).roll(2 * epoch, 0) * 9.0 + 3.0)

    _, history, _ = run(
        lrs=(0.01,) * 6,
        rho=1e-6,
        admm_iterations=6,
        functions=functions_of(train_fn=swings),
    )
    (message,) = history.warnings
    assert re.match(r"rho is too small: \d+% of the support was exchanged in iteration", message)
    assert message.endswith(f"try rho={9.2 * (1 - 0.9) / (6 * 0.01):.2g}")


def test_a_support_that_flips_in_spite_of_rho_is_told_another_form_and_no_larger_rho():
    def swings(model, optimizer, epoch):
        optimizer.step()
        with torch.no_grad():
            model[0].weight.copy_(torch.eye(5, 6).roll(2 * epoch, 0) * 9.0 + 3.0)

    for w_step, advice in (
        ("gradient", "take w_step=proximal"),
        ("proximal", "lower the learning"),
    ):
        _, history, _ = run(
            lrs=(0.01,) * 6,
            rho=50.0,
            admm_iterations=6,
            w_step=w_step,
            functions=functions_of(train_fn=swings),
        )
        (message,) = history.warnings
        assert advice in message
        assert "try rho" not in message


def test_a_parameter_group_with_learning_rate_0_is_told_once():
    def frozen_stem(parameters, lr):
        first, *others = list(parameters)
        return torch.optim.SGD([{"params": [first], "lr": 0.0}, {"params": others}], lr)

    _, history, _ = run(lrs=(0.05,) * 4, rho=0.3, functions=functions_of(optimizer_fn=frozen_stem))
    assert [w for w in history.warnings if "0.weight was 0 in every step" in w] == history.warnings
    assert len(history.warnings) == 1


def test_calm_phase_warns_of_nothing():
    _, history, _ = run(lrs=(0.05,) * 40, rho=0.3, admm_iterations=10)
    assert history.warnings == []


def test_capped_rho_is_told_once():
    policy = SupportDriven(100.0, 100.0, 100.0)
    plain = functions_of(optimizer_fn=torch.optim.SGD)
    _, history, _ = run(
        lrs=(0.05,) * 4, rho=0.5, admm_iterations=4, rho_policy=policy, functions=plain
    )
    assert [r.rho for r in history.iterations] == [0.5, 20.0, 20.0, 20.0]
    (message,) = history.warnings
    assert message.startswith("rho_policy asked for rho 50 in iteration 2; it is held at 20:")
