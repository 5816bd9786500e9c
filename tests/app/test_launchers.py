"""A real sweep of four jobs on Slurm's local stand-in and on a Ray cluster of two nodes."""

import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, run_command

pytestmark = pytest.mark.slow

JOBS = (
    *("-m", "rho=0.1,0.5", "sparsity=0.3,0.5", "model=small_cnn", "device=cpu"),
    *("schedule.dense.epochs=1", "schedule.admm_iterations=1", "schedule.admm_epoch=1"),
    "schedule.finetune.epochs=0",
)


def needs(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the extra {extra}: pip install 'admm-exp[{extra}]'")


def assert_four_jobs_under_one_parent(work: Path, done: Done) -> None:
    assert done.returncode == 0, done.stderr
    (table,) = (work / "outputs" / "sweeps").glob("*/sweep.json")
    rows = json.loads(table.read_text())
    assert [row["status"] for row in rows] == ["finished"] * 4
    children, (parent,) = runs_of(work, "run"), runs_of(work, "sweep")
    names = sorted(run.info.run_name for run in children)
    assert names == [f"rho={rho},sparsity={s}" for rho in (0.1, 0.5) for s in (0.3, 0.5)]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert len({run.data.tags["pid"] for run in children}) > 1
    assert len(runs_of(work, "baseline")) == 1


def runs_of(work: Path, kind: str) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own, while it is imported
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{work}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("admm_exp").experiment_id
    return list(client.search_runs([experiment], f"tags.kind = '{kind}'"))


def test_submitit_runs_a_sweep(tmp_path: Path) -> None:
    needs("submitit", "slurm")
    done = run_command(tmp_path, *JOBS, "hydra/launcher=submitit_local")
    assert_four_jobs_under_one_parent(tmp_path, done)


def test_the_slurm_preset_composes(tmp_path: Path) -> None:
    needs("submitit", "slurm")
    done = run_command(tmp_path, "--cfg", "hydra", "hydra/launcher=slurm")
    assert "submitit_launcher.SlurmLauncher" in done.stdout


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
    done = run_command(tmp_path, *JOBS, "hydra/launcher=ray_cluster", address)
    assert_four_jobs_under_one_parent(tmp_path, done)
