"""Whom a run is told of: the address that the user's own settings name, not that of its folder."""

import os
import shlex
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import absolute_uri, frozen_uri, sqlite_file, without_password

TABLES = frozenset(
    {"runs", "params", "tags", "metrics", "latest_metrics", "experiments", "experiment_tags"}
    | {"datasets", "inputs", "input_tags"}
)
"""Where MLflow keeps runs."""
RUN_ID = "run_uuid"
"""Column of MLflow's table `runs`; other programs have tables of that name too."""
MAKE_ONE = "run admm-exp here first, or set tracking_uri"


def chosen_address(run_dir: Path, stored: str, own: str, run_id: str | None) -> str:
    """Choose where a run goes on that an earlier process told of.

    Args:
        run_dir: Folder of the run, which may be someone else's.
        stored: The address that the folder names, without a password.
        own: The address that the user's settings name.
        run_id: The run, as the folder names it; None if it was told nowhere.

    Returns:
        The user's own address, or that of the folder if it is a database under the current folder
        that holds the run already.

    Raises:
        TrackingError: If the folder names another address, with how to confirm it.
    """
    if is_same_store(stored, own):
        return own
    if run_id is not None and _holds(sqlite_file(stored), run_id, run_dir):
        return stored
    raise TrackingError(
        f"{run_dir} was tracked at {stored}, which your settings do not name, and nothing is sent "
        f"where a folder says: confirm it with {shlex.quote(f'tracking_uri={stored}')}, or name "
        f"your own store"
    )


def is_same_store(stored: str, own: str) -> bool:
    """Tell whether two addresses are one, whatever their passwords."""
    return _plain(stored) == _plain(own)


def require_own_artifacts(tracking_uri: str, run_id: str, artifact_uri: str) -> None:
    """Check that a database keeps the files of a run in a folder of this machine made for them.

    A server answers for its own; a database file may be someone else's, and whatever it names would
    be written to, with the user's credentials.

    Args:
        tracking_uri: Absolute tracking URI.
        run_id: The run.
        artifact_uri: Where the store says that its files are.

    Raises:
        TrackingError: If they are elsewhere.
    """
    if sqlite_file(tracking_uri) is None:
        return
    parts = urlsplit(artifact_uri)
    place = unquote(parts.path).rstrip("/").split("/")
    is_local = parts.scheme in ("", "file") and parts.netloc in ("", "localhost")
    if not (is_local and place[-2:] == [run_id, "artifacts"] and ".." not in place):
        raise TrackingError(
            f"{tracking_uri} keeps the files of run {run_id} at {artifact_uri}, and nothing is "
            f"sent where a database says: set another experiment_name or tracking_uri"
        )


def require_store(database: Path) -> None:
    """Check that a database holds runs, before anything else is asked of it.

    Args:
        database: An SQLite file; nothing is written to it.

    Raises:
        TrackingError: If none is there, with what lies there in its place; if it holds what
            `require_plain_tables` refuses.
    """
    if not database.exists():
        raise TrackingError(f"there is no store at {database}: {MAKE_ONE}")
    if not database.is_file():
        kind = "a folder" if database.is_dir() else "no regular file"
        raise TrackingError(f"{database} is {kind} and no store of runs: set another tracking_uri")
    if database.stat().st_size == 0:
        raise TrackingError(f"{database} is an empty file and no store of runs yet: {MAKE_ONE}")
    if _schema_of(database) == []:
        raise TrackingError(f"{database} is a database without tables: {MAKE_ONE}")
    require_plain_tables(database)


def require_plain_tables(database: Path) -> None:
    """Check that a database is a store, and holds nothing that works when a run is read or written.

    It may be someone else's: a view that never ends is waited for inside SQLite, where not even
    Ctrl-C is heard, and a trigger deletes what others write.

    Args:
        database: An SQLite file.

    Raises:
        TrackingError: If it is no database, if it has tables of something else alone, which MLflow
            would put its own beside, a view, or a trigger on a table of runs.
    """
    found = _schema_of(database)
    if not found:  # who opens it next says what is wrong with it
        return
    tables = {name: sql for kind, name, _, sql in found if kind == "table"}
    if tables and RUN_ID not in (tables.get("runs") or ""):
        raise TrackingError(
            f"{database} is no store of runs, it holds {', '.join(map(repr, [*tables][:3]))}: "
            "set another tracking_uri"
        )
    for kind, name, table, _ in found:
        if kind == "view" or (kind == "trigger" and table in TABLES):
            raise TrackingError(
                f"{database} holds the {kind} {name}, which would be run: drop it, or set another "
                f"tracking_uri"
            )


def address_to_read(uri: str) -> str:
    """Return the address of a store for who reads alone, which needs no place to write.

    Args:
        uri: Absolute tracking URI of a store that exists.
    """
    database = sqlite_file(uri)
    return uri if database is None or not is_frozen(database) else frozen_uri(database)


def is_frozen(database: Path) -> bool:
    """Tell whether a database lies where this process can write nothing, and nobody writes to it.

    SQLite makes files beside a database even to read it, unless it is told that none is needed.
    """
    is_written = database.with_name(f"{database.name}-wal").exists()
    return not is_written and not os.access(database.parent, os.W_OK)


def _schema_of(database: Path) -> list[tuple[str, str, str, str | None]] | None:
    """List kind, name, table and SQL of all that a database holds; None if it cannot be read now.

    Raises:
        TrackingError: If it is no database.
    """
    mode = "immutable=1" if is_frozen(database) else "mode=ro"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?{mode}", uri=True)) as store:
            store.text_factory = partial(str, encoding="utf-8", errors="replace")  # damage is read
            return store.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise TrackingError(
                f"{database} is a file of another kind and no store of runs: set another "
                f"tracking_uri"
            ) from error
        return None
    except (sqlite3.Error, UnicodeError):
        return None


def _plain(uri: str) -> str:
    try:
        return without_password(absolute_uri(uri)).rstrip("/")
    except TrackingError:
        return uri


def _holds(database: Path | None, run_id: str, run_dir: Path) -> bool:
    """Tell whether a database of the current folder's, and not of the run's, holds a run."""
    if database is None or not database.is_file():
        return False
    place = database.resolve()
    if place.is_relative_to(run_dir.resolve()) or not place.is_relative_to(Path.cwd().resolve()):
        return False
    require_plain_tables(place)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(place))}?mode=ro", uri=True)) as store:
            found = store.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
    except sqlite3.Error:
        return False
    return found is not None
