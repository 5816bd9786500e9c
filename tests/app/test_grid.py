"""The jobs of a grid."""

from support.method_toy import config_of

from admm_exp.app.grid import distinct
from admm_exp.app.parent_run import JobSpec


def spec_of(*overrides):
    return JobSpec(",".join(overrides), overrides, config_of(*overrides))


def test_the_same_settings_twice_are_one_job():
    jobs = [spec_of("sparsity=0.3"), spec_of("sparsity=0.30"), spec_of("sparsity=0.5")]
    assert distinct(jobs) == [jobs[0], jobs[2]]


def test_jobs_that_differ_in_where_they_are_kept_are_two():
    jobs = [spec_of("experiment_name=a"), spec_of("experiment_name=b")]
    assert distinct(jobs) == jobs
