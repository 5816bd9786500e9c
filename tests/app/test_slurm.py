"""Sweeps on a real Slurm of two nodes: jobs that it stops, requeues, cancels and times out."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.slurm import HAS_SLURM, ask, slurm
from support.stores import runs_at, store_of
from support.sweeping import PATIENCE_SECONDS, started, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_SLURM, reason="needs slurm-wlm, munge and root"),
    pytest.mark.skipif(
        importlib.util.find_spec("submitit") is None, reason="needs the extra slurm"
    ),
]
EPOCHS = 300
LONG_EPOCHS = 3000
SETTINGS = (
    *("model=small_cnn", "device=cpu", "schedule.dense.epochs=1", "schedule.admm_iterations=1"),
    *("schedule.admm_epoch=1", f"schedule.finetune.epochs={EPOCHS}"),
)
ONE_CPU = ("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")
ON_SLURM = ("-m", "hydra/launcher=slurm", *ONE_CPU, "hydra.launcher.poll_seconds=2")
EIGHT = ("rho=0.1,0.5", "sparsity=0.3,0.5", "seed=0,1")
USED, QUEUED, KILLED, CANCELLED = range(4)
NAMES = [f"rho=0.1,sparsity={s},seed={seed}" for s in (0.3, 0.5) for seed in (0, 1)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Mapping[str, str]]:
    with slurm() as environment:
        yield environment


def finetuned_epochs(run_dir: Path) -> int:
    journal = run_dir / "metrics.jsonl"
    return journal.read_text().count("finetune/train_loss") if journal.exists() else 0


def statuses(sweep: Path) -> list[str]:
    paths = sorted((sweep / ".jobs").glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text())["status"] for path in paths]


def process_of(sweep: Path, number: int) -> int:
    tags = re.search(r'"pid": "(\d+)"', (sweep / str(number) / "metrics.jsonl").read_text())
    assert tags is not None
    return int(tags[1])


def slurm_id(cluster: Mapping[str, str], number: int) -> str:
    """Find the id of a task of the array, `7_3`; scancel does not find it by its own number."""
    lines = ask(cluster, "squeue", "-h", "-r", "-o", "%F %K").splitlines()
    return next("_".join(line.split()) for line in lines if line.split()[1] == str(number))


def finished(sweeping: "subprocess.Popen[str]", cluster: Mapping[str, str]) -> tuple[str, str]:
    """Wait for the end of a sweep; what Slurm would start again in two minutes starts at once."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sweeping.poll() is None and time.monotonic() < deadline:
        waiting = ask(cluster, "squeue", "-h", "-r", "-t", "PENDING", "-o", "%i %r").splitlines()
        for number, reason in map(str.split, waiting):
            if reason == "BeginTime":
                ask(cluster, "scontrol", "update", f"JobId={number}", "StartTime=now")
        time.sleep(2)
    return sweeping.communicate(timeout=10)


@pytest.fixture(scope="module")
def disturbed(
    tmp_path_factory: pytest.TempPathFactory, cluster: Mapping[str, str]
) -> tuple[Path, Path, str, float]:
    """A sweep of eight jobs, of which four are stopped in four ways; then the same command."""
    work = tmp_path_factory.mktemp("slurm")
    sweeping = started(work, *ON_SLURM, *EIGHT, *SETTINGS, cluster=cluster)
    (sweep,) = wait_for(sweeping, lambda: list((work / "outputs/sweeps").glob("*")))
    for number in (USED, QUEUED, KILLED, CANCELLED):
        wait_for(sweeping, lambda number=number: finetuned_epochs(sweep / str(number)) > 3)
    ask(cluster, "scancel", slurm_id(cluster, CANCELLED))
    cancelled = time.monotonic()
    os.kill(process_of(sweep, KILLED), signal.SIGKILL)
    ask(cluster, "scontrol", "requeue", slurm_id(cluster, QUEUED))
    # The job has itself requeued so soon that scancel goes on trying, a minute, and then fails.
    command = ["scancel", "--signal=USR2", slurm_id(cluster, USED)]
    telling = subprocess.Popen(command, env=os.environ | cluster, stderr=subprocess.PIPE)
    wait_for(sweeping, lambda: statuses(sweep)[CANCELLED] == "killed")
    noticed_seconds = time.monotonic() - cancelled
    out, err = finished(sweeping, cluster)
    telling.communicate()
    return work, sweep, out + err, noticed_seconds


def test_what_slurm_stops_goes_on_and_what_it_ends_is_named(disturbed: Any) -> None:
    _, sweep, said, _ = disturbed
    expected = ["finished"] * 8
    expected[KILLED], expected[CANCELLED] = "failed", "killed"
    assert statuses(sweep) == expected, said
    assert "2 of 8 jobs failed" in said
    assert re.search(r"its Slurm job \d+_2 died", said)
    assert re.search(r"its Slurm job \d+_3 was cancelled", said)
    stopped = set(re.findall(r"stopped by the cluster (\S+)", said))
    assert {NAMES[number] for number in (USED, QUEUED, CANCELLED)} <= stopped <= set(NAMES)
    assert "[9/8]" not in said


def test_a_cancelled_job_is_noticed_within_a_minute(disturbed: Any) -> None:
    assert disturbed[3] < 60


def test_a_job_that_goes_on_keeps_its_folder_and_its_run(disturbed: Any) -> None:
    work, sweep, _, _ = disturbed
    runs = runs_at(store_of(work), "tags.kind = 'run'")
    (parent,) = runs_at(store_of(work), "tags.kind = 'sweep'")
    assert sorted(run.data.tags["run_dir"] for run in runs) == [
        str(sweep / str(n)) for n in range(8)
    ]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 6 + ["KILLED"] * 2
    for number in (USED, QUEUED):
        assert finetuned_epochs(sweep / str(number)) == EPOCHS


def test_the_result_is_that_of_a_run_that_nobody_stopped(
    disturbed: Any, tmp_path: Path, cluster: Mapping[str, str]
) -> None:
    sweep = disturbed[1]
    plain = started(tmp_path, *SETTINGS, "rho=0.1", "sparsity=0.3", "seed=0", "tracking=none")
    plain.communicate(timeout=PATIENCE_SECONDS)
    (run_dir,) = (tmp_path / "outputs/runs").glob("*")
    whole, resumed = ((d / "model.safetensors").read_bytes() for d in (run_dir, sweep / str(USED)))
    assert whole == resumed


def test_the_same_command_runs_what_is_missing_and_cleans_up(
    disturbed: Any, cluster: Mapping[str, str]
) -> None:
    work, sweep, _, _ = disturbed
    again = started(work, *ON_SLURM, *EIGHT, *SETTINGS, cluster=cluster)
    out, err = again.communicate(timeout=PATIENCE_SECONDS)
    assert again.returncode == 0, err
    assert out.count("reused") >= 6
    (parent,) = runs_at(store_of(work), "tags.kind = 'sweep'")
    assert parent.info.status == "FINISHED"
    runs = runs_at(store_of(work), "tags.kind = 'run'")
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 8 + ["KILLED"] * 2
    (newest,) = set((work / "outputs/sweeps").glob("*")) - {sweep}
    assert not (newest / ".submitit").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("gpus_per_node=1", "hydra.launcher.gpus_per_node=1, but partition by default has no GPUs"),
        ("partition=gpu", r"Slurm does not take the jobs \(.*partition.*\): .*partition=gpu"),
        ("mem_gb=9000", r"Slurm does not take the jobs \(.*\): .*mem_gb=9000"),
    ],
)
def test_what_slurm_does_not_take_is_one_sentence(
    tmp_path: Path, cluster: Mapping[str, str], setting: str, sentence: str
) -> None:
    words = (*ON_SLURM, f"hydra.launcher.{setting}", "sparsity=0.3,0.5", *SETTINGS, "tracking=none")
    refused = started(tmp_path, *words, cluster=cluster)
    _, err = refused.communicate(timeout=PATIENCE_SECONDS)
    assert refused.returncode == 1
    assert re.search(sentence, err), err


def test_a_job_longer_than_its_time_limit_finishes_in_pieces(
    tmp_path: Path, cluster: Mapping[str, str]
) -> None:
    limits = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30")
    long = (*SETTINGS, f"schedule.finetune.epochs={LONG_EPOCHS}", "sparsity=0.3", "tracking=none")
    sweeping = started(tmp_path, *ON_SLURM, *limits, *long, cluster=cluster)
    out, err = finished(sweeping, cluster)
    assert sweeping.returncode == 0, err
    assert "stopped by the cluster" in out
    (report,) = (tmp_path / "outputs/sweeps").glob("*/0/report.json")
    epochs = json.loads(report.read_text())["epochs"]
    assert epochs["finetune"] == LONG_EPOCHS


def test_the_same_command_takes_over_what_a_killed_one_has_left(
    tmp_path: Path, cluster: Mapping[str, str]
) -> None:
    words = (*ON_SLURM, "sparsity=0.3,0.5", "seed=0,1,2", *SETTINGS)  # six jobs on four CPUs
    killed = started(tmp_path, *words, cluster=cluster)
    (sweep,) = wait_for(killed, lambda: list((tmp_path / "outputs/sweeps").glob("*")))
    wait_for(killed, lambda: finetuned_epochs(sweep / "0") > 3)
    killed.kill()
    killed.communicate()
    again = started(tmp_path, *words, cluster=cluster)
    out, err = again.communicate(timeout=PATIENCE_SECONDS)
    assert again.returncode == 0, err
    assert re.search(r"left on Slurm by an earlier command, and going on: \d of \d", out), out
    assert statuses(sweep) == ["finished"] * 6
    (parent,) = runs_at(store_of(tmp_path), "tags.kind = 'sweep'")
    runs = runs_at(store_of(tmp_path), "tags.kind = 'run'")
    assert [run.info.status for run in (parent, *runs)] == ["FINISHED"] * 7
    assert not list((tmp_path / "outputs/sweeps").glob("*/.submitit"))
    (newest,) = set((tmp_path / "outputs/sweeps").glob("*")) - {sweep}
    assert not any(path.is_symlink() for path in newest.rglob("*"))
    assert len(json.loads((newest / "sweep.json").read_text())) == 6
