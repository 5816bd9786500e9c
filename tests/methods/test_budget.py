"""Every method spends the same number of epochs on the weights it ends with."""

import pytest
from support.method_toy import config_of, constrained_of, run_method
from support.toy import train_fn

from admm_exp.admm.rho_policy import Constant
from admm_exp.experiment.functions import admm_course, last_training
from admm_exp.methods.admm import ADMM
from admm_exp.methods.gradual import Gradual
from admm_exp.methods.group_lasso import GroupLasso
from admm_exp.methods.oneshot import OneShot
from admm_exp.methods.scratch import Scratch

METHODS = [ADMM(), OneShot(lr=None), Gradual(ramp=0.75), Scratch(), GroupLasso(strength=1.0)]
D, A, F = 7, 6, 4


def last_of(method, *overrides):
    config = config_of(*overrides)
    return last_training(config, method, admm_course(config, Constant()))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_all_epochs_together_are_dense_admm_and_finetune(method):
    trained = []

    def count(model, optimizer, epoch):
        trained.append(epoch)
        train_fn(model, optimizer, epoch)

    run_method(method, constrained_of(), rho=0.1, train_fn=count)
    last = last_of(method)
    is_fresh = method.starts_fresh
    before = 0 if is_fresh else D + len(trained)
    assert before + last.training.epochs == D + A + F
    assert last.offset == before
    assert trained == list(range(D, D + len(trained)))
    assert len(trained) in {0, A}


@pytest.mark.parametrize("method", [ADMM(), Gradual(ramp=0.75), GroupLasso(strength=1.0)])
def test_joint_finetuning_is_the_rest_of_the_cosine_before_the_cut(method):
    config = config_of("schedule.admm_decay=joint", "schedule.admm_warmup=0.3")
    last = last_training(config, method, admm_course(config, Constant())).training
    assert (last.before, last.epochs, last.warmup) == (A, F, 0.3)
    other = last_of(method, "schedule.admm_decay=joint", "schedule.finetune.decay=step").training
    assert other.before == 0


@pytest.mark.parametrize("decay", ["cosine", "step"])
def test_joint_stretches_the_learning_rates_of_admm_over_a_cosine_alone(decay):
    config = config_of("schedule.admm_decay=joint", f"schedule.finetune.decay={decay}")
    last = admm_course(config, Constant()).lrs.of_epoch(A - 1, 50)[-1]
    assert (last > 0.1 * config.schedule.admm_lr) == (decay == "cosine")


@pytest.mark.parametrize("method", [OneShot(lr=None), Scratch()])
def test_joint_changes_nothing_where_nothing_is_trained_before_the_cut(method):
    joint = last_of(method, "schedule.admm_decay=joint")
    assert joint == last_of(method, "schedule.admm_decay=cosine")


def test_oneshot_finetunes_with_the_schedules_learning_rate_or_its_own():
    assert last_of(OneShot(lr=None)).training.lr == 0.02
    assert last_of(OneShot(lr=0.1)).training.lr == 0.1


def test_scratch_trains_with_the_dense_networks_learning_rates():
    last = last_of(Scratch(), "schedule.dense.decay=step", "schedule.dense.warmup=0.3").training
    assert (last.lr, last.decay, last.warmup) == (0.3, "step", 0.3)


def test_oneshot_leaves_the_network_and_ranks_what_it_finds():
    constrained = constrained_of()
    before = [w.clone() for w in constrained.weights()]
    support = constrained.constraint.select(before)
    run_method(OneShot(lr=None), constrained)
    assert all((a == b).all() for a, b in zip(constrained.weights(), before, strict=True))
    assert constrained.state.support[0].equal(support[0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: OneShot(lr=0.0), "lr must be null or greater than 0, got 0.0"),
        (lambda: Gradual(ramp=1.1), r"ramp must be in \[0, 1\], got 1.1"),
        (lambda: GroupLasso(strength=0.0), "strength must be greater than 0, got 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
