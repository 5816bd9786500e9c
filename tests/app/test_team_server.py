"""A sweep against `mlflow server` on PostgreSQL with an artifact store."""

import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, clean_environment, run_command
from four_jobs import FOUR_JOBS, assert_four_jobs_under_one_parent
from stores import client_at, runs_at

from admm_exp.tracking.server import HOST, free_port

PATIENCE_SECONDS = 120
PROGRAMS = [shutil.which("pg_ctl"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))]
PG_CTL = next(filter(None, PROGRAMS), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PG_CTL is None, reason="PostgreSQL is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg2") is None, reason="needs psycopg2"),
]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Run a fresh PostgreSQL, which refuses root, on loopback."""
    folder, port = Path(tempfile.mkdtemp(prefix="postgres")), free_port(15432)
    owner: dict[str, Any] = {"user": "postgres", "cwd": "/"} if os.geteuid() == 0 else {}
    if owner:
        shutil.chown(folder, "postgres")

    def pg_ctl(*words: str) -> None:
        command = [str(PG_CTL), "-D", str(folder / "data"), "-w", "-s", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **owner)

    pg_ctl("init", "-o", "-A trust -U admm")
    settings = f"-h {HOST} -p {port} -k {folder}"
    pg_ctl("start", "-l", str(folder / "log"), "-o", settings)
    yield f"postgresql+psycopg2://admm@{HOST}:{port}/postgres"
    pg_ctl("stop", "-m", "fast")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("server"), free_port(15000)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "2", "--backend-store-uri", database]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--artifacts-destination", str(folder / "artifacts")],
            cwd=folder,
            env=clean_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: answers(port), (folder / "log").read_text)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()
            process.wait(60)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], words: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, words()
        time.sleep(0.3)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def sweep(work: Path, server: str) -> Done:
    return run_command(work, *FOUR_JOBS, "hydra/launcher=process", f"tracking_uri={server}")


def test_a_sweep_is_one_story_on_a_server(work: Path, server: str, sweep: Done) -> None:
    assert_four_jobs_under_one_parent(work, sweep, server)
    assert sweep.stderr == ""


def test_the_server_keeps_the_files_and_the_curves(work: Path, server: str, sweep: Done) -> None:
    client = client_at(server)
    for run in runs_at(server, "tags.kind = 'run'"):
        copied = client.download_artifacts(run.info.run_id, "report.json", str(work))
        own = Path(run.data.tags["run_dir"]) / "report.json"
        assert Path(copied).read_bytes() == own.read_bytes()
        points = client.get_metric_history(run.info.run_id, "admm/primal_residual")
        assert [point.step for point in points] == [1]
    assert not (work / "outputs" / "artifacts").exists()


def test_the_same_command_runs_nothing_again(work: Path, server: str, sweep: Done) -> None:
    again = run_command(work, *FOUR_JOBS, "hydra/launcher=process", f"tracking_uri={server}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" started ") == 0
    assert len(runs_at(server)) == 6
