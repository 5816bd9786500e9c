"""The jobs of a grid."""

import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from support.method_toy import config_of

from admm_exp.app.grid import distinct, require_values
from admm_exp.app.parent_run import JobSpec
from admm_exp.errors import ConfigError


def spec_of(*overrides):
    return JobSpec(",".join(overrides), overrides, config_of(*overrides))


def test_the_same_settings_twice_are_one_job():
    jobs = [spec_of("sparsity=0.3"), spec_of("sparsity=0.30"), spec_of("sparsity=0.5")]
    assert distinct(jobs) == [jobs[0], jobs[2]]


def test_jobs_that_differ_in_where_they_are_kept_are_two():
    jobs = [spec_of("experiment_name=a"), spec_of("experiment_name=b")]
    assert distinct(jobs) == jobs


@pytest.mark.parametrize(
    "words", [["seed=range(0,1000000000000)"], ["seed=range(0,1000)", "rho=range(1,1000)"]]
)
def test_more_jobs_than_anyone_runs_are_refused_before_they_are_listed(words):
    with pytest.raises(ConfigError, match="makes more than 100000 jobs: sweep fewer values"):
        require_values(OverridesParser.create().parse_overrides(words))


def test_who_hands_jobs_to_processes_loads_nothing_heavy():
    code = (
        "import sys, admm_exp.app.grid, admm_exp.app.worker\n"
        "assert not {'torch', 'mlflow', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
