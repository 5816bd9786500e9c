"""A real sweep on Slurm's local stand-in and on a Ray cluster of two nodes."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import clean_environment, run_command
from support.four_jobs import FOUR_JOBS, assert_four_jobs_under_one_parent
from support.stores import runs_at, store_of
from support.sweeping import PATIENCE_SECONDS, started, wait_for

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


def test_a_job_whose_ray_worker_is_killed_goes_on_in_its_run(
    tmp_path: Path, two_nodes: str
) -> None:
    epochs = 150
    words = (*FOUR_JOBS[:-1], "hydra/launcher=ray_cluster", f"{FOUR_JOBS[-1][:-1]}{epochs}")
    address = f"hydra.launcher.ray.init.address='{two_nodes}'"
    sweeping = started(tmp_path, *words, address)
    journals = "outputs/sweeps/*/0/metrics.jsonl"
    journal = wait_for(sweeping, lambda: next(iter(tmp_path.glob(journals)), None))
    wait_for(sweeping, lambda: journal.read_text().count("finetune/train_loss") > 3)
    worker = re.search(r'"pid": "(\d+)"', journal.read_text())
    assert worker is not None
    os.kill(int(worker[1]), signal.SIGKILL)
    out, err = sweeping.communicate(timeout=PATIENCE_SECONDS)
    assert sweeping.returncode == 0, err
    assert "[4/4]" in out
    assert journal.read_text().count("finetune/train_loss") == epochs
    runs = runs_at(store_of(tmp_path), "tags.kind = 'run'")
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert journal.read_text().count('"run":') == 1
    (job,) = tmp_path.glob("outputs/sweeps/*/0/model.safetensors")
    settings = (*FOUR_JOBS[3:-1], f"{FOUR_JOBS[-1][:-1]}{epochs}", "rho=0.1", "sparsity=0.3")
    plain = run_command(tmp_path, *settings, "tracking=none", "hydra.run.dir=plain")
    assert plain.returncode == 0, plain.stderr
    assert job.read_bytes() == (tmp_path / "plain/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("ray.init.address=127.0.0.1:1", "ray.init.address=127.0.0.1:1 is no Ray cluster that"),
        ("ray.remote.num_cpus=900", "num_cpus=900, but no node of the Ray cluster has more than "),
    ],
)
def test_what_ray_cannot_do_is_one_sentence(tmp_path: Path, setting: str, sentence: str) -> None:
    needs("ray", "ray")
    words = (*FOUR_JOBS, "hydra/launcher=ray_cluster", f"hydra.launcher.{setting}", "tracking=none")
    done = subprocess.run(
        [sys.executable, "-m", "admm_exp", *words],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1
