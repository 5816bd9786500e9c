"""A real sweep on Slurm's local stand-in and on a Ray cluster of two nodes."""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_command
from support.four_jobs import FOUR_JOBS, assert_four_jobs_under_one_parent
from support.stores import store_of

pytestmark = pytest.mark.slow


def needs(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the extra {extra}: pip install 'admm-exp[{extra}]'")


def test_submitit_runs_a_sweep(tmp_path: Path) -> None:
    needs("submitit", "slurm")
    done = run_command(tmp_path, *FOUR_JOBS, "hydra/launcher=submitit_local")
    assert_four_jobs_under_one_parent(tmp_path, done, store_of(tmp_path))


def test_the_slurm_preset_composes(tmp_path: Path) -> None:
    needs("submitit", "slurm")
    done = run_command(tmp_path, "--cfg", "hydra", "hydra/launcher=slurm")
    assert "hydra_plugins.admm_exp.slurm.SlurmLauncher" in done.stdout


@pytest.fixture
def two_nodes() -> Iterator[str]:
    needs("ray", "ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        yield cluster.address
        cluster.shutdown()


def test_ray_runs_a_sweep_on_two_nodes(tmp_path: Path, two_nodes: str) -> None:
    address = f"hydra.launcher.ray.init.address='{two_nodes}'"
    done = run_command(tmp_path, *FOUR_JOBS, "hydra/launcher=ray_cluster", address)
    assert_four_jobs_under_one_parent(tmp_path, done, store_of(tmp_path))
