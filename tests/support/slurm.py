"""A Slurm cluster of two nodes on this machine, without accounting, from Debian's packages.

apt-get install slurm-wlm munge
python -m support.slurm    # starts one and prints SLURM_CONF, until Ctrl-C
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 60
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
HAS_SLURM = os.name == "posix" and os.geteuid() == 0 and all(map(shutil.which, NEEDED))
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=60
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory=4000
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} RealMemory=4000
PartitionName=cpu Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm(cpus: int = 2) -> Iterator[Mapping[str, str]]:
    """Run the daemons as long as the body lasts; yield the environment of its commands.

    Args:
        cpus: Of each node; they may be more than the machine has.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    folder.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _write(folder, cpus)
        key, sock = folder / "munge.key", folder / "munge.socket"
        own = [f"--{n}-file={folder}/munge.{n}" for n in ("pid", "log", "seed")]
        command = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={sock}"]
        daemons.append(_started([*command, *own], folder, environment))
        _wait_until(sock.exists, folder)
        daemons.append(_started(["slurmctld", "-D"], folder, environment))
        for name in ("one", "two"):
            daemons.append(_started(["slurmd", "-D", "-N", name], folder, environment))
        _wait_until(lambda: _idle_nodes(environment) == 2, folder)
        yield environment
    finally:
        _end_jobs(environment)
        for daemon in reversed(daemons):
            os.killpg(daemon.pid, signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def ask(environment: Mapping[str, str], *command: str) -> str:
    """Run one of Slurm's commands and return what it prints; busy, Slurm is asked again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
        assert "try again later" in done.stderr, (command, done.stderr)
        assert time.monotonic() < deadline, (command, done.stderr)
        time.sleep(1)


def _write(folder: Path, cpus: int) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o400)
    (folder / "state").mkdir()
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for probe in (a, b, c):
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in (a, b, c)]
    host = socket.gethostname().partition(".")[0]
    text = CONF.format(host=host, folder=folder, ports=ports, cpus=cpus)
    (folder / "slurm.conf").write_text(text)


def _started(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    with (folder / "daemons.log").open("ab") as log:
        return subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _idle_nodes(environment: Mapping[str, str]) -> int:
    done = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%T"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split().count("idle")


def _end_jobs(environment: Mapping[str, str]) -> None:
    """Cancel what still runs: jobs outlive the daemons otherwise."""

    def said(*command: str) -> str:
        return subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        ).stdout

    said("scancel", "--user=root")
    deadline = time.monotonic() + PATIENCE_SECONDS / 2
    while said("squeue", "-h") and time.monotonic() < deadline:
        time.sleep(0.5)


def _wait_until(condition: Callable[[], object], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, (folder / "daemons.log").read_text()[-3000:]
        time.sleep(0.2)


if __name__ == "__main__":
    with slurm() as found:
        print(f"export SLURM_CONF={found['SLURM_CONF']}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
