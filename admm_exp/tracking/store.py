"""Opening an MLflow store: first initialisation, experiments, errors."""

import logging
import os
import re
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from filelock import FileLock

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import (
    has_server,
    sqlite_file,
    sqlite_uri,
    without_password,
)
from admm_exp.tracking.own_store import is_frozen, require_plain_tables
from admm_exp.tracking.view import prepare_view

if TYPE_CHECKING:
    from mlflow import MlflowClient

# One initialisation takes 7 s, and a whole sweep may wait for it.
LOCK_SECONDS = 300
# MLflow's own 7 retries of 120 s would hold a training up for minutes.
ANSWER_SECONDS = 30
BRIEF_REQUESTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS),
    # A server may ask for an hour; what it does not take now is sent again later.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
BUSY = re.compile(r"too many (\d{3}) error responses")

EMPTY = "empty.db"
"""Name of a database that is made before a store needs it."""

QUIET_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@contextmanager
def opened(uri: str, artifact_root: Path, empty: Path | None = None) -> Iterator["MlflowClient"]:
    """Yield a store's client, with a fresh SQLite store initialised first.

    Reading needs no lock; `writing` keeps processes that create runs from each other.

    Args:
        uri: Absolute tracking URI.
        artifact_root: Folder for the artifacts of a store without a server.
        empty: A database of `empty_database` for the same folder, which saves making one.

    Raises:
        TrackingError: The store cannot be opened, or the body failed.
    """
    with explained(uri), brief_requests():
        _load_mlflow()
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            client = _connect(uri, artifact_root, empty)
        yield client


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Say in a sentence what a store complains of.

    Args:
        uri: Absolute tracking URI.

    Raises:
        TrackingError: The body failed.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise _explained(uri, error) from error


def experiment_id(client: "MlflowClient", name: str, artifact_root: Path) -> str:
    """Return the id of the experiment `name`, which is created if missing.

    Args:
        client: Client of the store.
        name: The experiment's name.
        artifact_root: Folder for its artifacts; a server chooses its own.

    Raises:
        TrackingError: The experiment is deleted.
    """
    from mlflow.exceptions import MlflowException

    location = None if has_server(client.tracking_uri) else artifact_root.absolute().as_uri()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            with writing(client.tracking_uri):
                found = client.get_experiment(client.create_experiment(name, location))
        except MlflowException:
            # Another process may have created it meanwhile.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment {name!r} is deleted: set another experiment_name or restore it with "
            f"`MLFLOW_TRACKING_URI={without_password(client.tracking_uri)} "
            f"mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    prepare_view(client, found)
    return str(found.experiment_id)


def writing(uri: str) -> AbstractContextManager[object]:
    """Hold the lock of an SQLite store, which many processes may want to write to at once.

    Args:
        uri: Absolute tracking URI; other stores need no lock.
    """
    database = sqlite_file(uri)
    if database is None:
        return nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock", timeout=LOCK_SECONDS)


@contextmanager
def brief_requests() -> Iterator[None]:
    """Make MLflow give up soon on a server, where the environment does not say otherwise.

    Threads may be in it at once: the last one to leave cleans up.
    """
    with _brief.lock:
        if not _brief.users:
            _brief.added = [name for name in BRIEF_REQUESTS if name not in os.environ]
            os.environ.update({name: BRIEF_REQUESTS[name] for name in _brief.added})
        _brief.users += 1
    try:
        yield
    finally:
        with _brief.lock:
            _brief.users -= 1
            if not _brief.users:
                for name in _brief.added:
                    os.environ.pop(name, None)


class _Brief:
    """Who is in `brief_requests`."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.added: list[str] = []


_brief = _Brief()


def _load_mlflow() -> None:
    for name, value in QUIET_MLFLOW.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        import mlflow  # noqa: F401
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A database error is told in one sentence; MLflow would print its traceback every time.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _connect(uri: str, artifact_root: Path, empty: Path | None) -> "MlflowClient":
    from mlflow import MlflowClient

    database = sqlite_file(uri)
    if database is not None and not _is_ready(database):
        with writing(uri):
            if not _is_ready(database):
                _initialise(database, artifact_root, empty)
    if database is not None:
        require_plain_tables(database)
    return MlflowClient(tracking_uri=uri)


def _is_ready(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _initialise(database: Path, artifact_root: Path, empty: Path | None) -> None:
    """Build the tables in a file of their own: cut off or raced, MLflow leaves half a schema."""
    fresh = database.with_name(f"{database.name}.init")
    # SQLite would replay a journal that a former file of the same name left behind.
    for leftover in (fresh, database):
        for suffix in ("", "-journal", "-wal", "-shm"):
            leftover.with_name(leftover.name + suffix).unlink(missing_ok=True)
    try:
        if empty is None:
            _build_tables(fresh, artifact_root)
        else:
            shutil.copyfile(empty, fresh)
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(database)
    except Exception:  # such as a full disk, which it would keep full
        for suffix in ("", "-journal", "-wal", "-shm"):
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        raise


def empty_database(uri: str, artifact_root: Path, folder: Path) -> Path | None:
    """Load MLflow, and make the database that a store needs and has not, without touching it.

    Args:
        uri: Absolute tracking URI.
        artifact_root: Folder for the artifacts of the store.
        folder: Where to make it.

    Returns:
        The database; None if the store is none that lacks its tables.
    """
    _load_mlflow()
    database = sqlite_file(uri)
    if database is None or _is_ready(database):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (what a client loads late)

        return None
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        _build_tables(folder / EMPTY, artifact_root)
    return folder / EMPTY


def _build_tables(database: Path, artifact_root: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with _without_waiting_for_the_disk(database):
        SqlAlchemyStore(sqlite_uri(database), artifact_root.absolute().as_uri()).engine.dispose()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@contextmanager
def _without_waiting_for_the_disk(database: Path) -> Iterator[None]:
    """Let SQLite write a database that nobody needs before it is whole; MLflow commits 70 times."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: sqlite3.Connection, _: object) -> None:
        files = connection.execute("PRAGMA database_list").fetchall()
        if any(row[2] and os.path.samefile(row[2], database) for row in files):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _explained(uri: str, error: Exception) -> TrackingError:
    shown = without_password(uri)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "out-of-date database schema" in lines[0] or "Can't locate revision" in lines[0]:
        return TrackingError(
            f"the database {shown} was made by another MLflow version: back it up and run "
            f"`mlflow db upgrade {shown}`, or set another tracking_uri"
        )
    database = sqlite_file(uri)
    if database is not None and "unable to open" in lines[0] and is_frozen(database):
        return TrackingError(
            f"{database} lies in a folder that cannot be written, and SQLite writes beside a "
            f"database: copy it to one that can, or set another tracking_uri"
        )
    if busy := BUSY.search(str(error)):
        return TrackingError(
            f"tracking_uri {shown} answers {busy[1]}, busy or not ready, and is waited for no "
            f"longer than {ANSWER_SECONDS} s: try later, set another tracking_uri, or run with "
            "tracking=none"
        )
    return TrackingError(
        f"tracking_uri {shown} cannot be used ({lines[0][:200].rstrip('.')}): mend it, "
        "set another tracking_uri, or run with tracking=none"
    )
