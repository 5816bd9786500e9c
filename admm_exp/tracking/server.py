"""The MLflow UI as a process of its own, on loopback."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from admm_exp.errors import TrackingError
from admm_exp.tracking.store import QUIET_MLFLOW

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
# Without its job runner the server starts in half the time; the UI of runs needs none.
SERVER_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@contextmanager
def ui_server(uri: str, port: int) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run the MLflow UI on a store, and end it with all its workers.

    Args:
        uri: Absolute URI of a database.
        port: Where it listens on 127.0.0.1; the next free port if that is taken.

    Yields:
        The UI's address, once it answers, and the process.

    Raises:
        TrackingError: It does not start; the sentence ends with its last words.
    """
    port = free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    with TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            # without the last a module of the current folder would be imported
            env=QUIET_MLFLOW | SERVER_ENVIRONMENT | os.environ | {"PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the group
        )
        try:
            _wait_until_it_answers(process, port, log)
            yield f"http://{HOST}:{port}", process
        finally:
            _end(process)


def free_port(first: int) -> int:
    """Return the first port from `first` on that nothing listens at.

    Raises:
        TrackingError: All of the next 100 are taken.
    """
    for port in range(first, min(first + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise TrackingError(f"port={first} and the 99 after it are taken: choose another port")


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    raise TrackingError(f"the MLflow UI did not start: {last}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        # The group's other members may outlive its leader.
        _wait_for_group(process.pid)


def _wait_for_group(group: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
