import os
import signal
import socket

import pytest

from admm_exp.errors import TrackingError
from admm_exp.tracking import server
from admm_exp.tracking.server import HOST, free_port, ui_server


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_passed_over(taken):
    found = free_port(taken)
    assert taken < found < taken + 100
    with socket.socket() as probe:
        probe.bind((HOST, found))


def test_no_free_port_is_one_sentence(monkeypatch):
    monkeypatch.setattr(server, "HOST", "203.0.113.1")  # not an address of this machine
    with pytest.raises(TrackingError, match="port=5000 and the 99 after it are taken"):
        free_port(5000)


def test_a_port_that_is_free_is_taken():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    assert free_port(port) == port


def test_no_port_beyond_the_last_is_tried(monkeypatch):
    monkeypatch.setattr(server, "HOST", "203.0.113.1")
    with pytest.raises(TrackingError, match="port=65500 and the 99 after it are taken"):
        free_port(65500)


def test_the_server_leads_a_group_of_its_own_and_ends_with_it(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o700)
    monkeypatch.setattr(server.sys, "executable", str(script))
    monkeypatch.setattr(server, "_wait_until_it_answers", lambda *_: None)
    with ui_server("sqlite:///x.db", 5000) as (_, process):
        assert os.getpgid(process.pid) == process.pid
    assert process.returncode == -signal.SIGTERM


def test_a_server_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr(server.sys, "executable", "/bin/sh")
    reason = "the MLflow UI did not start: .*sh: .*mlflow"
    with pytest.raises(TrackingError, match=reason), ui_server("sqlite:///x.db", 5000):
        pass
