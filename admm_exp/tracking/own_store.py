"""Whom a run is told of: the address that the user's own settings name, not that of its folder."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import absolute_uri, sqlite_file, without_password

TABLES = frozenset(
    {"runs", "params", "tags", "metrics", "latest_metrics", "experiments", "experiment_tags"}
    | {"datasets", "inputs", "input_tags"}
)
"""Where MLflow keeps runs."""


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


def holds_runs(database: Path) -> bool:
    """Tell whether a database has MLflow's tables; one that cannot be read may have."""
    if not database.is_file() or database.stat().st_size == 0:
        return False
    found = _schema_of(database)
    return found is None or "experiments" in {name for _, name, _ in found}


def require_plain_tables(database: Path) -> None:
    """Check that a database is a store, and holds nothing that works when a run is read or written.

    It may be someone else's: a view that never ends is waited for inside SQLite, where not even
    Ctrl-C is heard, and a trigger deletes what others write.

    Args:
        database: An SQLite file.

    Raises:
        TrackingError: If it has tables of something else alone, which MLflow would put its own
            beside, a view, or a trigger on a table of runs.
    """
    found = _schema_of(database)
    if not found:  # who opens it next says what is wrong with it
        return
    tables = [name for kind, name, _ in found if kind == "table"]
    if tables and TABLES.isdisjoint(name for _, name, _ in found):
        raise TrackingError(
            f"{database} is no store of runs, it holds {', '.join(map(repr, tables[:3]))}: "
            "set another tracking_uri"
        )
    for kind, name, table in found:
        if kind == "view" or (kind == "trigger" and table in TABLES):
            raise TrackingError(
                f"{database} holds the {kind} {name}, which would be run: drop it, or set another "
                f"tracking_uri"
            )


def _schema_of(database: Path) -> list[tuple[str, str, str]] | None:
    """List kind, name and table of all that a database holds; None if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as store:
            return store.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
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
