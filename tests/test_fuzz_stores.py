"""Damaged databases: a report, a new run and a search end in one sentence, and nothing waits."""

import shutil
import signal
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from support.fuzz import LONGEST_SECONDS, MUTATIONS, damaged, ended_by_alarm, times, tried
from support.runs import details, row
from support.stores import log_runs, store_uri
from support.trackers import open_in

from admm_exp.errors import AdmmExpError, ConfigError, TrackingError
from admm_exp.sweep.study import SearchSettings, open_study, usable
from admm_exp.tracking.queries import earlier_sweep
from admm_exp.tracking.runs import read_runs

VALUES = st.sampled_from([None, "", "x", "NaN", -1, 0, 2**63 - 1, 1e308, b"\x00\xff", "a" * 300])
DROPS = st.tuples(st.just("drop"), st.integers(0, 10**6), st.none())
RENAMES = st.tuples(st.just("rename"), st.integers(0, 10**6), st.none())
SETS = st.tuples(st.just("set"), st.integers(0, 10**6), VALUES)
EDITS = st.lists(DROPS | RENAMES | SETS | SETS | SETS, min_size=1, max_size=3)


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    with ended_by_alarm():
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with three finished runs, all of it in one file."""
    folder = tmp_path_factory.mktemp("store")
    log_runs(folder, [row(seed=seed, **details()) for seed in range(3)])
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("VACUUM INTO ?", (str(folder / "whole.db"),))
    with closing(sqlite3.connect(folder / "whole.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    return folder / "whole.db"


def edit(path: Path, edits: list[tuple[str, int, Any]]) -> None:
    """Change tables and values of a database, whatever they are."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        names = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for what, number, value in edits:
            table = names[number % len(names)]
            with suppress(sqlite3.Error, OverflowError):
                if what == "drop":
                    db.execute(f'DROP TABLE "{table}"')
                    continue
                columns = [info[1] for info in db.execute(f'PRAGMA table_info("{table}")')]
                column = columns[number // len(names) % len(columns)] if columns else "gone"
                if what == "rename":
                    db.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "other"')
                else:
                    db.execute(f'UPDATE "{table}" SET "{column}" = ?', (value,))
        db.commit()


def use(folder: Path) -> None:
    """Report what is stored, look for an earlier sweep, and add a run."""
    signal.alarm(LONGEST_SECONDS)
    with suppress(AdmmExpError):
        read_runs(store_uri(folder), "made-up")
    with suppress(AdmmExpError):
        earlier_sweep(store_uri(folder), "made-up", folder / "artifacts", "abc")
    with suppress(AdmmExpError):
        tracker = open_in(folder)
        tracker.log_params({"a": 1})
        tracker.log_metrics({"b": 0.5}, step=1)
        tracker.finish("FINISHED")
    signal.alarm(0)


def in_new_folders(parent: Path, name: str) -> Callable[[bytes], Path]:
    """Write contents into a file of a new folder each: MLflow keeps a connection to each path."""
    numbers = count()

    def new(content: bytes) -> Path:
        folder = parent / str(next(numbers))
        folder.mkdir()
        (folder / name).write_bytes(content)
        return folder

    return new


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of drivers that fail to open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@times(300, few=3)
def test_a_damaged_database_is_used_or_refused(tmp_path: Path, store: Path, n: int) -> None:
    whole, new = store.read_bytes(), in_new_folders(tmp_path, "mlflow.db")

    def check(mutations: list[tuple[float, bytes]]) -> None:
        folder = new(damaged(whole, mutations))
        use(folder)
        shutil.rmtree(folder)

    tried(n, check, MUTATIONS)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@times(300, few=3)
def test_a_database_of_other_tables_is_used_or_refused(tmp_path: Path, store: Path, n: int) -> None:
    whole, new = store.read_bytes(), in_new_folders(tmp_path, "mlflow.db")

    def check(edits: list[tuple[str, int, Any]]) -> None:
        folder = new(whole)
        edit(folder / "mlflow.db", edits)
        use(folder)
        shutil.rmtree(folder)

    tried(n, check, EDITS)


@pytest.mark.slow  # MLflow waits 20 s
def test_a_database_that_another_program_holds_is_not_waited_for_for_ever(
    tmp_path: Path, store: Path
) -> None:
    shutil.copy(store, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        signal.alarm(LONGEST_SECONDS)
        assert len(read_runs(store_uri(tmp_path), "made-up").rows) == 3
        with pytest.raises(TrackingError, match=r"cannot be used .*locked"):
            open_in(tmp_path)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of Optuna with a study."""
    pytest.importorskip("optuna", reason="needs the extra search")
    folder = tmp_path_factory.mktemp("search")
    study = open_study(settings(folder), "it")
    trial = study.ask()
    trial.suggest_float("rho", 0.1, 1.0)
    study.tell(trial, 0.5)
    return (folder / "search.db").read_bytes()


def settings(folder: Path) -> SearchSettings:
    return SearchSettings(["accuracy"], 2, 1, f"sqlite:///{folder}/search.db", None, True)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@times(200, few=3)
def test_a_damaged_study_is_gone_on_with_or_refused(tmp_path: Path, search: bytes, n: int) -> None:
    new = in_new_folders(tmp_path, "search.db")

    def check(case: tuple[list[tuple[float, bytes]], list[tuple[str, int, Any]]]) -> None:
        mutations, edits = case
        folder = new(damaged(search, mutations) if mutations else search)
        if edits:
            with suppress(sqlite3.Error):
                edit(folder / "search.db", edits)
        signal.alarm(LONGEST_SECONDS)
        with suppress(ConfigError), warnings.catch_warnings(action="ignore"):
            study = open_study(settings(folder), "it")
            with usable(settings(folder).storage):  # as the command asks
                study.ask().suggest_float("rho", 0.1, 1.0)
        signal.alarm(0)
        shutil.rmtree(folder)

    tried(n, check, st.tuples(MUTATIONS, st.just([])) | st.tuples(st.just([]), EDITS))
