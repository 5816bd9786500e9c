"""MLflow servers and databases that tests start, stop with real signals, and start again."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import clean_environment

HOST = "127.0.0.1"
PATIENCE_SECONDS = 300
PROGRAMS = [shutil.which("pg_ctl"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))]
PG_CTL = next(filter(None, PROGRAMS), None)
APPLICATION = """
import sys
import mlflow.server
from werkzeug.serving import make_server
make_server("127.0.0.1", int(sys.argv[1]), mlflow.server.app, threaded=True).serve_forever()
"""


class Server:
    """A server on loopback, in a process group of its own: signals reach its workers as well.

    Args:
        folder: Where it keeps artifacts and its log.
        store: URI of its database.
        is_whole: `mlflow server`; otherwise MLflow's web application alone, which starts sooner.
    """

    def __init__(self, folder: Path, store: str, *, is_whole: bool = True) -> None:
        self.folder, self.store, self.is_whole = folder, store, is_whole
        self.port = free_port()
        self.uri = f"http://{HOST}:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the same port and store every time, and wait until it answers."""
        environment = clean_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = [sys.executable, "-W", "ignore"]
        files = str(self.folder / "files")
        if self.is_whole:
            command += ["-m", "mlflow", "server", "--host", HOST, "--port", str(self.port)]
            command += ["--workers", "1", "--backend-store-uri", self.store]
            command += ["--artifacts-destination", files]
        else:
            command += ["-c", APPLICATION, str(self.port)]
            environment |= {
                "_MLFLOW_SERVER_FILE_STORE": self.store,
                "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
                "_MLFLOW_SERVER_ARTIFACT_DESTINATION": files,
                "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            }
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self.answers, (self.folder / "log").read_text)

    def send(self, number: int) -> None:
        """Send the server and its workers a signal."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill it, as a machine that dies would."""
        if self.process is not None:
            self.send(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def answers(self) -> bool:
        """Tell whether it is up."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def served(folder: Path, store: str, *, is_whole: bool = True) -> Iterator[Server]:
    """Run a server as long as the body lasts."""
    server = Server(folder, store, is_whole=is_whole)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def postgres() -> Iterator[str]:
    """Run a fresh PostgreSQL, which refuses root, on loopback; yield its URI."""
    folder, port = Path(tempfile.mkdtemp(prefix="postgres")), free_port()
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


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], words: Callable[[], str]) -> None:
    """Wait for something to become true; if it does not, fail with some words."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, words()
        time.sleep(0.1)
