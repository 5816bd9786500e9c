"""How long is waited for a store that is slow, and when it is tried again."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from admm_exp.tracking.sender import PATIENCE_SECONDS, Sender

STORE = "sqlite:///mlflow.db"


@pytest.mark.parametrize(("is_slow", "seconds"), [(False, PATIENCE_SECONDS), (True, 0.0)])
def test_nobody_waits_for_a_store_that_was_slow(tmp_path: Path, is_slow: bool, seconds: float):
    sender, waited = Sender(STORE, tmp_path, lambda _: None), []
    sender._thread = SimpleNamespace(join=waited.append, is_alive=lambda: True)
    sender._is_busy, sender._is_slow = True, is_slow
    sender.deliver()
    assert waited == [seconds]


def test_the_pauses_between_tries_double_up_to_five_minutes(tmp_path: Path):
    answers = [ConnectionError("down")] * 6 + [None]

    def send(part):
        if (answer := answers.pop(0)) is not None:
            raise answer

    sender, pauses = Sender(STORE, tmp_path, send), []
    sender._metrics = ["a"]
    while answers:
        sender._work()
        pauses.append(sender._pause_seconds)
    assert pauses == [20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 10.0]


def test_a_point_that_comes_while_others_are_sent_is_sent_too(tmp_path: Path):
    sent = []

    def send(part):
        if not sent:
            sender._metrics.append("b")
        sent.extend(part)

    sender = Sender(STORE, tmp_path, send)
    sender._metrics = ["a"]
    assert sender._try() is None
    assert sent == ["a", "b"]
