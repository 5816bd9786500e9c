"""A process that runs one job of a sweep after the other."""

from multiprocessing import Pipe

import pytest

from admm_exp.app import worker


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The jobs that a worker in this process has run."""
    jobs: list[bytes] = []

    def has_run(job: bytes) -> bool:
        jobs.append(job)
        return job != b"fails"

    monkeypatch.setattr(worker, "_has_run", has_run)
    monkeypatch.setattr(worker, "_die_with_parent", lambda: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    return jobs


def test_a_process_takes_jobs_until_one_fails(done: list[bytes]) -> None:
    ours, theirs = Pipe()
    for job in (b"ends well", b"ends well", b"fails", b"ends well"):
        ours.send_bytes(job)
    worker._work(theirs, {})
    assert [ours.recv() for _ in range(3)] == [True, True, False]
    assert len(done) == 3


def test_a_process_ends_quietly_when_the_launcher_lets_go_of_it(done: list[bytes]) -> None:
    ours, theirs = Pipe()
    ours.send_bytes(b"ends well")
    ours.close()
    worker._work(theirs, {})
    assert done == [b"ends well"]
