"""What a method cannot do is refused before anything is built."""

import pytest
from support.method_toy import config_of

from admm_exp.admm.partitions.channel import Channel
from admm_exp.admm.partitions.filter import Filter
from admm_exp.errors import ConfigError
from admm_exp.experiment.preflight import check_method
from admm_exp.methods.group_lasso import GroupLasso
from admm_exp.methods.oneshot import OneShot
from admm_exp.methods.scratch import Scratch


def test_scratch_cannot_go_on_from_a_run():
    config = config_of("method=scratch", "from_run=runs/1")
    with pytest.raises(ConfigError, match=r"method=scratch trains from random .* from_run=runs/1"):
        check_method(config, Scratch(), Channel())


def test_group_lasso_needs_channels():
    config = config_of("method=group_lasso", "granularity=filter")
    with pytest.raises(ConfigError, match="granularity must be channel, got filter"):
        check_method(config, GroupLasso(1.0), Filter())


def test_what_a_method_can_do_is_not_refused():
    check_method(config_of("from_run=runs/1", "granularity=filter"), OneShot(None), Filter())
