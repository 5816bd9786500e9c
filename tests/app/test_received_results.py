"""What load, from_run=, report, sweeps, search and sync read of a folder that someone else made."""

import json
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.hostile import (
    HOSTILE,
    Hostile,
    Settings,
    contents,
    genuine,
    link,
    pipe,
    place,
    write_run,
)
from support.hostile_more import ODD_FILES
from support.runs import details, finished_report, row
from support.stores import log_runs, store_uri

import admm_exp
from admm_exp.app.reuse import changes_since_report
from admm_exp.app.search import _earlier_jobs
from admm_exp.app.sync_command import sync
from admm_exp.config.check import check_config
from admm_exp.errors import AdmmExpError
from admm_exp.experiment.previous import read_previous
from admm_exp.models.lenet import small_cnn
from admm_exp.report.drawing import draw_run
from admm_exp.report.run import read_report
from admm_exp.results import REPORT, STRUCTURE, WEIGHTS
from admm_exp.sweep.finished import FinishedReports
from admm_exp.sweep.job import Job
from admm_exp.sweep.watch import job_row
from admm_exp.tracking.runs import read_runs
from admm_exp.training.checkpoint import packed

__all__ = ["place"]  # a fixture
KEY, DATA = "c0ffee", SimpleNamespace(name="digits", fingerprint="abc")


def result(name: str, content: bytes) -> Hostile:
    """Replace a file of the result."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        (run / name).write_bytes(content)

    return change


def huge(name: str) -> Hostile:
    """Claim a file of a terabyte, which takes no room on the disk."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        with (run / name).open("wb") as file:
            file.truncate(2**40)

    return change


def builder(**changes: Any) -> Hostile:
    """Change what builds the network."""

    def change(settings: Settings, run: Path, outside: Path) -> None:
        settings["model"] |= changes

    return change


DEEP = b"[" * 100_000
RESULTS: dict[str, Hostile] = {
    f"{what} as {name}": make(name)
    for name in (REPORT, STRUCTURE, WEIGHTS)
    for what, make in {
        "a pipe": pipe,
        "a terabyte": huge,
        "a deep pile": lambda name: result(name, DEEP),
        "a list": lambda name: result(name, b"[]"),
        "a text": lambda name: result(name, b'"x"'),
        "nothing": lambda name: result(name, b""),
        "a long number": lambda name: result(name, b'{"status": ' + b"9" * 5000 + b"}"),
        "no unicode": lambda name: result(name, b'{"status": "\xff"}'),
        "a link to a device": lambda name: link(name, "/dev/zero"),
        "a link outside": lambda name: link(name, "precious.txt"),
    }.items()
}
RESULTS |= {
    "figures that lead outside": link("figures", "nowhere/yet"),
    "a network of another module": builder(_target_="admm_exp.models.lenet.nn.Linear"),
    "weights of a network": builder(weights="DEFAULT", pretrained=True),
    "a network of no width": builder(width=0),
    "a network of a negative width": builder(width=-1),
    "a network of a text's width": builder(width="8"),
    "a network of endless width": builder(width=2**40),
    "a network of a hundred classes": builder(num_classes=100),
}
ALL = HOSTILE | ODD_FILES | RESULTS


@cache
def weights() -> bytes:
    return packed(small_cnn(num_classes=10).state_dict())


def write_result(run: Path, settings: Settings, said: str | None) -> None:
    """Write what a finished run leaves, where the folder does not hold something else."""
    report = {"config_hash": KEY} | finished_report() | {"config": settings, "run_dir": str(run)}
    report |= {"dataset": vars(DATA), "own_code": {}, "config_hash": KEY}
    structure = {"builder": settings["model"], "attributes": {}, "input_shape": [1, 8, 8]}
    files = {
        REPORT: (said or json.dumps(report)).encode(),
        STRUCTURE: (said or json.dumps(structure)).encode(),
        WEIGHTS: weights(),
    }
    for name, content in files.items():
        if not os.path.lexists(run / name):
            (run / name).write_bytes(content)


def load_it(run: Path) -> None:
    assert type(admm_exp.load(run)).__module__.startswith("admm_exp.models.")


def start_from_it(run: Path) -> None:
    previous = read_previous(str(run), DATA, "small_cnn", lambda: small_cnn(10))  # type: ignore[arg-type]
    previous.rounds()
    previous.original()
    previous.network()


def reuse_it(run: Path) -> None:
    config = check_config(genuine())
    for found in FinishedReports([run]).of([KEY]):
        changes_since_report(found.path, config)


def tell_of_it(run: Path) -> None:
    job_row(Job("rho=1", KEY, status="reused", run_dir=str(run)))
    draw_run(run)


def search_on(run: Path) -> None:
    trials = [
        SimpleNamespace(user_attrs={"name": "x", "run_dir": str(run)}),
        SimpleNamespace(user_attrs={"run_dir": str(run)}),
        SimpleNamespace(user_attrs={"name": 3, "run_dir": [3]}),
    ]
    for job in _earlier_jobs(SimpleNamespace(get_trials=lambda **_: trials), []):
        job_row(job)


def deliver_it(run: Path) -> None:
    sync(run, "sqlite:///own.db", is_chosen=False)


def repeat_it(run: Path) -> None:
    read_report(run, {})


USES = [load_it, start_from_it, reuse_it, tell_of_it, search_on, deliver_it, repeat_it]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Addresses that are called; a use that waits for ever is ended."""
    found: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        found.append(address)
        raise ConnectionRefusedError

    def too_long(*_: object) -> None:
        raise AssertionError("it waits for ever")

    monkeypatch.setattr(socket.socket, "connect", connect)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(30)
    yield found
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("change", ALL.values(), ids=ALL.keys())
def test_a_hostile_result_is_read_or_refused_and_does_nothing(
    place: Path, calls: list[object], change: Hostile
) -> None:
    outside, run = place.parent / "outside", place / "run"
    run.mkdir()
    settings = genuine()
    said = change(settings, run, outside)
    write_run(run, settings, said)
    write_result(run, settings, said)
    before = contents(outside)
    for use in USES:
        with suppress(AdmmExpError):
            use(run)
    assert contents(outside) == before
    assert not (outside / "nowhere").exists()
    assert not {"evil", "antigravity", "admm_exp_models"} & sys.modules.keys()
    assert calls == []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A database with one finished run, and the run's id."""
    folder = tmp_path_factory.mktemp("store")
    log_runs(folder, [row(**details())])
    (run,) = read_runs(store_uri(folder), "made-up").rows
    return folder / "mlflow.db", run["run_id"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, id=name, marks=[] if REPORT in name else pytest.mark.slow)
        for name, change in ALL.items()
    ],
)
def test_a_hostile_result_in_a_store_does_nothing_in_a_comparison(
    place: Path, calls: list[object], store: tuple[Path, str], change: Hostile
) -> None:
    database, run_id = store
    outside, run = place.parent / "outside", place / run_id / "artifacts"
    run.mkdir(parents=True)
    settings = genuine()
    said = change(settings, run, outside)
    write_result(run, settings, said)
    with (
        closing(sqlite3.connect(database)) as whole,
        closing(sqlite3.connect(place / "mlflow.db")) as db,
    ):
        whole.backup(db)
        db.execute("UPDATE runs SET artifact_uri = ?", (str(run),))
        db.execute("UPDATE tags SET value = ? WHERE key = 'run_dir'", (str(run),))
        db.commit()
    before = contents(outside)
    assert len(read_runs(store_uri(place), "made-up").rows) == 1
    assert contents(outside) == before
    assert calls == []
