"""One run in several processes: started by the command, by torchrun, on two hosts."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHORT, Done, clean_environment, run_command

from admm_exp.errors import ConfigError
from admm_exp.training import processes
from admm_exp.training.checkpoint import load_tensors
from admm_exp.training.processes import leading

pytestmark = pytest.mark.long

OWN = """
import os, signal
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Linear(32, num_classes))
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps == 50 and os.environ.get("RANK") == "1" and Path("deadly").exists():
            Path("pid").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.Signals[Path("deadly").read_text()])
        return self.body(x)

def net(num_classes):
    return Net(num_classes)
"""
OWN_MODEL = "model._target_=own.net"
RUN = Path("outputs/runs/it")
GENTLE = ("schedule.dense.lr=0.01", "schedule.admm_lr=0.01", "schedule.finetune.lr=0.01")


def write_own(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(OWN)
    return folder


def options(*others: str) -> tuple[str, ...]:
    return (OWN_MODEL, "~model.width", f"hydra.run.dir={RUN}", *SHORT, *GENTLE, *others)


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / RUN / "report.json").read_text())
    return report


def statuses(folder: Path) -> list[str]:
    """List the statuses of the runs of kind run."""
    with closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as database:
        found = database.execute(
            "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key='kind' AND value='run'"
        )
        return [status for (status,) in found]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_own(tmp_path_factory.mktemp("alone"))
    done = run_command(folder, *options("tracking=none"))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def bereft(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A run whose second process is killed in ADMM training."""
    folder = write_own(tmp_path_factory.mktemp("bereft"))
    (folder / "deadly").write_text("SIGKILL")
    done = run_command(folder, *options("trainer.devices=2"))
    (folder / "deadly").unlink()
    return folder, done


def assert_like(folder: Path, alone: Path) -> None:
    """Compare with the run of one process: weights, channels, accuracies."""
    expected, found = report_of(alone), report_of(folder)
    assert found["layers"] == expected["layers"]
    weights = load_tensors(alone / RUN / "model.safetensors")
    for name, value in load_tensors(folder / RUN / "model.safetensors").items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)
    for model, column in expected["models"].items():
        assert found["models"][model]["test_accuracy"] == pytest.approx(
            column["test_accuracy"], abs=0.005
        )


def test_a_process_that_is_killed_ends_the_run_with_one_sentence(
    bereft: tuple[Path, Done],
) -> None:
    folder, done = bereft
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: process 2 of 2 was killed by SIGKILL: go on from the last epoch")
    assert statuses(folder) == ["FAILED"]
    assert not (folder / RUN / "report.json").exists()


def test_it_goes_on_in_one_process_and_ends_like_one_process(
    bereft: tuple[Path, Done], alone: Path
) -> None:
    folder, _ = bereft
    done = run_command(folder, f"resume={RUN}", "trainer.devices=1", OWN_MODEL)
    assert done.returncode == 0, done.stderr
    assert statuses(folder) == ["FINISHED"]
    assert report_of(folder)["environment"]["processes"] == 1
    assert_like(folder, alone)


def test_a_batch_that_cannot_be_shared_is_one_sentence(tmp_path: Path) -> None:
    done = run_command(tmp_path, "trainer.devices=2", "schedule.batch_size=33")
    assert done.returncode == 1
    assert "batch_size must be a multiple of 2, the number of processes" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_processes_that_got_no_work_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    # their imports take longer on a busy machine than a user who is refused should wait
    monkeypatch.setattr(processes, "GRACE_SECONDS", 3600.0)
    with pytest.raises(ConfigError, match="refused"), leading(2, False) as team:
        raise ConfigError("refused")
    assert [child.process.returncode for child in team.children] == [0]


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("devices", "is_job", "sentence"),
    [
        (3, False, "trainer.devices must be 2, which is what torchrun started, .* got 3"),
        (1, True, "run it without torchrun, with trainer.devices=2"),
    ],
)
def test_what_does_not_fit_torchrun_is_refused(
    monkeypatch: pytest.MonkeyPatch, devices: int, is_job: bool, sentence: str
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=sentence), leading(devices, is_job):
        pass


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run_with_one_sentence(tmp_path: Path) -> None:
    folder = write_own(tmp_path)
    (folder / "deadly").write_text("SIGSTOP")
    done = run_command(folder, *options("trainer.devices=2", "trainer.patience_seconds=45"))
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: another process has died or does not answer (")
    assert f"resume={folder / RUN}" in line
    assert statuses(folder) == ["FAILED"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


@pytest.mark.slow
def test_two_processes_end_like_one_with_one_run_and_one_report(
    tmp_path: Path, alone: Path
) -> None:
    folder = write_own(tmp_path)
    done = run_command(folder, *options("trainer.devices=2"))
    assert done.returncode == 0, done.stderr
    assert statuses(folder) == ["FINISHED"]
    assert len(list((folder / "outputs" / "runs").iterdir())) == 1
    assert report_of(folder)["environment"]["processes"] == 2
    assert_like(folder, alone)


def torchrun(*launch: str) -> list[str]:
    run = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run"]
    return [*run, *launch, "-m", "admm_exp", *options("tracking=none")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_torchrun_gives_the_same(tmp_path: Path, alone: Path) -> None:
    folder = write_own(tmp_path)
    command = torchrun("--nproc_per_node=2", f"--master_port={free_port()}")
    environment = clean_environment() | {"GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_like(folder, alone)


def can_make_hosts() -> bool:
    """Tell whether network namespaces and links between them may be made here."""
    if shutil.which("ip") is None or shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    trial = "ip link add name admmtrial type veth peer name admmtrial2"
    command = ["unshare", "-n", "sh", "-c", trial]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_make_hosts(), reason="network namespaces are not permitted here")
def test_two_hosts_in_two_network_namespaces_give_the_same(tmp_path: Path, alone: Path) -> None:
    folder = write_own(tmp_path)
    names = [f"admm{os.getpid()}{side}" for side in "ab"]
    hosts = []
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        link = ["ip", "link", "add", "eth0", "netns", names[0], "type", "veth"]
        subprocess.run([*link, "peer", "name", "eth0", "netns", names[1]], check=True)
        for number, name in enumerate(names, start=1):
            inside = ["ip", "-n", name]
            subprocess.run(
                [*inside, "addr", "add", f"10.9.8.{number}/24", "dev", "eth0"], check=True
            )
            for device in ("lo", "eth0"):
                subprocess.run([*inside, "link", "set", device, "up"], check=True)
        for number, name in enumerate(names):
            meet = ["--nnodes=2", f"--node_rank={number}", "--nproc_per_node=1"]
            command = torchrun(*meet, "--master_addr=10.9.8.1", "--master_port=29500")
            hosts.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", name, *command],
                    cwd=folder,
                    env=clean_environment() | {"GLOO_SOCKET_IFNAME": "eth0"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            )
        for host in hosts:
            _, complaints = host.communicate(timeout=600)
            assert host.returncode == 0, complaints.decode()[-3000:]
    finally:
        for host in hosts:
            host.kill()
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)
    assert_like(folder, alone)
