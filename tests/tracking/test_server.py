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


def test_a_server_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr(server.sys, "executable", "/bin/sh")
    reason = "the MLflow UI did not start: .*sh: .*mlflow"
    with pytest.raises(TrackingError, match=reason), ui_server("sqlite:///x.db", 5000):
        pass
