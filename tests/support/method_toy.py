"""A method's settings, and the toy network under a constraint."""

from omegaconf import OmegaConf
from support.composed import composed
from support.toy import batches, functions_of, mlp

from admm_exp.admm.metrics import L2Norm
from admm_exp.admm.rho_policy import Geometric
from admm_exp.config.check import check_config
from admm_exp.experiment.functions import admm_course
from admm_exp.pruning.constrained import ConstrainedModel

STEPS = len(batches())


def config_of(*overrides):
    """Compose 7 dense, 3 x 2 ADMM and 4 finetune epochs at a constant 0.05, 0.05 and 0.02."""
    short = ["dense.epochs=7", "admm_iterations=3", "admm_epoch=2", "finetune.epochs=4"]
    lrs = ["dense.lr=0.3", "admm_lr=0.05", "admm_decay=constant", "finetune.lr=0.02"]
    settings = [f"schedule.{setting}" for setting in (*short, *lrs)]
    config = composed(*settings, *overrides)
    return check_config(OmegaConf.to_container(config, resolve=True, enum_to_str=True))


def constrained_of(metric=None, sparsity=0.6, model=None):
    return ConstrainedModel(
        model or mlp(), batches()[0][0], sparsity=sparsity, metric=metric or L2Norm(), rho=1.0
    )


def run_method(method, constrained, *overrides, rho=1.0, **functions):
    """Let a method train for 3 x 2 epochs at 0.05, after 7 dense ones; return what ended it."""
    course = admm_course(config_of(*overrides), Geometric(1.3))
    functions = functions_of(**functions, steps_per_epoch=STEPS)
    return method.sparsify(constrained, course, functions, rho=rho, offset=7)
