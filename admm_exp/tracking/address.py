"""Tracking URIs: checked, made absolute and tried without loading MLflow."""

import re
import shlex
import socket
import urllib.request
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from admm_exp.errors import TrackingError

PLAIN = re.compile(r"[\w:.\-/\\@%?+*]+")
CONTACT_SECONDS = 3.0
SQLITE, DRIVER = "sqlite:///", "sqlite+pysqlite:///"
ENCODED = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})
"""Signs of a path that mean something else in an URI."""
SERVER_PORTS = {"http": 80, "https": 443}
PORTS = SERVER_PORTS | {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def absolute_uri(tracking_uri: str) -> str:
    """Check a tracking URI and make an SQLite path absolute.

    Args:
        tracking_uri: Where MLflow keeps runs; a relative SQLite path starts at the current folder.

    Raises:
        TrackingError: It is not a URI, or names no database file or host.
    """
    if tracking_uri == "databricks":
        return tracking_uri
    file = sqlite_file(tracking_uri)
    if file is not None:
        _, has_query, query = tracking_uri.partition("?")
        absolute = sqlite_uri(file.absolute())
        return absolute if "?" in absolute else f"{absolute}{has_query}{query}"
    if not _is_remote(tracking_uri):
        raise TrackingError(
            f"tracking_uri must look like sqlite:///outputs/mlflow.db or http://127.0.0.1:5000, "
            f"got {re.sub(r'://.*@', '://***@', without_password(tracking_uri))!r}"
        )
    return tracking_uri


def sqlite_file(uri: str) -> Path | None:
    """Return the database file that an SQLite URI names, None for any other URI.

    Args:
        uri: A tracking URI.
    """
    prefix = next(filter(uri.startswith, (SQLITE, DRIVER)), None)
    if prefix is None:
        return None
    path = unquote(uri.removeprefix(prefix).partition("?")[0])
    if path.startswith("file:"):
        path = path.removeprefix("file:")
        path = unquote(path) if "%" in path and _is_decoded() else path
    return None if path in ("", ":memory:") else Path(path)


def sqlite_uri(file: Path) -> str:
    """Name a database file as an URI, whatever signs its path has.

    SQLAlchemy reads `%20` as a space since 2.1; before that SQLite itself can be asked to. MLflow
    makes the folder that it reads in `sqlite:///`, of another name, and none with a driver.

    Args:
        file: The database.
    """
    encoded = str(file).translate(ENCODED)
    if encoded == str(file):
        return f"{SQLITE}{encoded}"
    return f"{DRIVER}{encoded}" if _is_decoded() else f"{DRIVER}file:{encoded}?uri=true"


def frozen_uri(file: Path) -> str:
    """Name a database that nobody writes to, so that SQLite reads it without writing beside it.

    Args:
        file: The database.
    """
    encoded = str(file).translate(ENCODED)
    if _is_decoded():  # by SQLAlchemy, and by SQLite then
        encoded = encoded.replace("%", "%25")
    return f"{DRIVER}file:{encoded}?immutable=1&uri=true"


def _is_decoded() -> bool:
    """Tell whether SQLAlchemy reads `%23` as #."""
    from sqlalchemy.engine import make_url

    return make_url(f"{DRIVER}%23").database == "#"


def has_server(uri: str) -> bool:
    """Say whether a server stands between this process and the store.

    Args:
        uri: A tracking URI.
    """
    return uri.partition(":")[0] in (*SERVER_PORTS, "databricks")


def without_password(uri: str) -> str:
    """Return `uri` fit for a message.

    Args:
        uri: A tracking URI.
    """
    shown = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", uri)  # to the last @ of the host
    return re.sub(r"([?&](?:\w*password|passwd|pwd|token)=)[^&\s'\"]+", r"\1***", shown)


def ui_command(uri: str, experiment_name: str) -> str:
    """Return the command that shows an experiment in the MLflow UI, without a password.

    Args:
        uri: A tracking URI.
        experiment_name: The experiment.
    """
    settings = {"experiment_name": experiment_name, "tracking_uri": without_password(uri)}
    words = [f"{key}={_read(value)}" for key, value in settings.items()]
    return shlex.join(["admm-exp-ui", *words])


def _read(value: str) -> str:
    """Quote a text where Hydra would read something else."""
    if PLAIN.fullmatch(value):
        return value
    return '"{}"'.format(value.replace('"', '\\"'))


def require_reachable(uri: str) -> None:
    """Check that a store answers.

    Args:
        uri: A tracking URI.

    Raises:
        TrackingError: Nothing answers there.
    """
    try:
        contact(uri)
    except OSError as error:
        raise TrackingError(
            f"nothing answers at tracking_uri {without_password(uri)} "
            f"({error.strerror or error}): start that server, correct tracking_uri, "
            "or run with tracking=none"
        ) from None


def contact(uri: str) -> None:
    """Try the host and port of a store for at most 3 s; a URI without a known port passes.

    Args:
        uri: A tracking URI.

    Raises:
        OSError: Nothing answers there.
    """
    address = _host_and_port(uri)
    if address is not None:
        socket.create_connection(address, CONTACT_SECONDS).close()


def _is_remote(uri: str) -> bool:
    parts = _split(uri)
    if parts is None or not parts.scheme or parts.scheme in ("sqlite", "file"):
        return False
    return bool(parts.hostname) or parts.scheme not in PORTS


def _host_and_port(uri: str) -> tuple[str, int] | None:
    parts = _split(uri)
    if parts is None or not parts.hostname:
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and parts.scheme in SERVER_PORTS and not urllib.request.proxy_bypass(parts.hostname):
        return _place(_split(proxy if "://" in proxy else f"{parts.scheme}://{proxy}"))
    return _place(parts)


def _place(parts: SplitResult | None) -> tuple[str, int] | None:
    if parts is None or not parts.hostname:
        return None
    port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
    return None if port is None else (parts.hostname, port)


def _split(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        # Reading the port is what checks it.
        return parts if parts.port != 0 else None
    except ValueError:
        return None
