"""Runs as a store holds them, read in few and small answers.

MLflow's client makes four objects of every parameter, metric and tag, and a store of 2,000 runs
holds 200,000: 3.5 ms of CPU a run. Here a database is asked for plain columns, 0.1 ms a run, and
of a server's answer the JSON is read, 0.15 ms. Other stores answer through MLflow's client.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

PAGE = 1000
IDS_PER_QUERY = 500
NEWEST_FIRST = "attributes.start_time DESC"
SEARCH = "/api/2.0/mlflow/runs/search"
PARTS = ("params", "metrics", "tags")

Found = TypeVar("Found")


@dataclass(frozen=True)
class StoredRun:
    """One run.

    Args:
        run_id: Its id.
        name: Its name.
        status: RUNNING, FINISHED, FAILED or KILLED.
        artifact_uri: Where its files are.
        params: Its parameters.
        metrics: The last value of every metric.
        tags: Its tags.
    """

    run_id: str
    name: str
    status: str
    artifact_uri: str
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def stored_runs(
    client: "MlflowClient",
    experiment_id: str,
    among: str = "",
    parts: Collection[str] = PARTS,
    page: int | None = None,
) -> Iterator[StoredRun]:
    """Yield the runs of an experiment that are not deleted, newest first.

    Args:
        client: Client of the store.
        experiment_id: The experiment.
        among: MLflow's filter.
        parts: Which of params, metrics and tags are needed; others may be left out.
        page: Runs an answer, `PAGE` if not given; who needs the first alone asks for 1.

    Raises:
        MlflowException: The filter is wrong, or the store does not answer.
    """
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    page = page or PAGE
    store = client._tracking_client.store
    if isinstance(store, SqlAlchemyStore):
        return _from_database(store, experiment_id, among, parts, page)
    if type(store) is RestStore:
        return _from_server(store, experiment_id, among, page)
    return _from_client(client, experiment_id, among, page)


def runs_by_id(
    client: "MlflowClient", experiment_id: str, run_ids: Sequence[str], among: str = ""
) -> Iterator[StoredRun]:
    """Yield the runs of an experiment that have these ids, without their params and metrics.

    Args:
        client: Client of the store.
        experiment_id: The experiment.
        run_ids: Their ids; those of runs elsewhere, and what is no id, are left out.
        among: MLflow's filter, which they must fulfil as well.
    """
    wanted = [run_id for run_id in run_ids if run_id.isalnum()]
    for start in range(0, len(wanted), IDS_PER_QUERY):
        ids = ", ".join(f"'{run_id}'" for run_id in wanted[start : start + IDS_PER_QUERY])
        condition = " and ".join(filter(None, (f"attributes.run_id IN ({ids})", among)))
        yield from stored_runs(client, experiment_id, condition, ("tags",))


def _from_database(
    store: "SqlAlchemyStore", experiment_id: str, among: str, parts: Collection[str], page: int
) -> Iterator[StoredRun]:
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlTag

    tables: dict[str, Any] = {"params": SqlParam, "metrics": SqlLatestMetric, "tags": SqlTag}
    heads = _heads(store, experiment_id, among)
    size = min(page, IDS_PER_QUERY)
    for start in range(0, len(heads), size):
        some = heads[start : start + size]
        found: dict[str, dict[str, dict[str, Any]]] = {}
        with store.ManagedSessionMaker() as session:
            for part in parts:
                found[part] = _entries(session, tables[part], [head[0] for head in some])
        for run_id, name, status, artifact_uri in some:
            data = {part: found[part].get(run_id, {}) for part in parts}
            place = _as_text(artifact_uri)
            yield StoredRun(_as_text(run_id), _as_text(name), _as_text(status), place, **data)


def _heads(store: "SqlAlchemyStore", experiment_id: str, among: str) -> list[tuple[str, ...]]:
    """Read id, name, status and place of the files of all runs; MLflow words the filter in SQL."""
    from mlflow.store.tracking.dbmodels.models import SqlRun
    from mlflow.store.tracking.sqlalchemy_store import _get_sqlalchemy_filter_clauses
    from mlflow.utils.search_utils import SearchUtils
    from sqlalchemy import select

    parsed = SearchUtils.parse_search_filter(among)
    with store.ManagedSessionMaker() as session:
        own, joined, datasets = _get_sqlalchemy_filter_clauses(
            parsed, session, store._get_dialect()
        )
        # The time stands among the columns because a distinct answer can be ordered by them alone.
        columns = (SqlRun.run_uuid, SqlRun.name, SqlRun.status, SqlRun.artifact_uri)
        query: Any = select(*columns, SqlRun.start_time)
        for clause in joined:
            query = query.join(clause, SqlRun.run_uuid == clause.c.run_uuid)
        for clause in datasets:
            query = query.join(clause, SqlRun.run_uuid == clause.c.destination_id)
        query = query.distinct().filter(
            SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == "active", *own
        )
        rows = session.execute(query.order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)).all()
        return [tuple(row)[:4] for row in rows]


def _entries(session: Any, table: Any, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the entries of runs in one table: run id -> key -> value."""
    from sqlalchemy import select

    has_nan = hasattr(table, "is_nan")
    columns = (table.run_uuid, table.key, table.value, *([table.is_nan] if has_nan else []))
    found: dict[str, dict[str, Any]] = {run_id: {} for run_id in run_ids}
    for run_id, key, value, *is_nan in session.execute(
        select(*columns).where(table.run_uuid.in_(run_ids))
    ):
        if has_nan:
            found[run_id][_as_text(key)] = _as_number(math.nan if any(is_nan) else value)
        else:
            found[run_id][_as_text(key)] = _as_text(value)
    return found


def _as_text(value: Any) -> str:
    """Take what SQLite keeps in a column of texts, which may be anything, for a text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def _as_number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _from_server(
    store: "RestStore", experiment_id: str, among: str, page: int
) -> Iterator[StoredRun]:
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    def ask(token: str | None) -> tuple[list[dict[str, Any]], str | None]:
        words = {"experiment_ids": [experiment_id], "filter": among, "max_results": page}
        words |= {"order_by": [NEWEST_FIRST]} | ({"page_token": token} if token else {})
        answer = http_request(store.get_host_creds(), SEARCH, "POST", json=words)
        found = verify_rest_response(answer, SEARCH).json()
        return found.get("runs", []), found.get("next_page_token")

    return map(_from_json, _pages(ask))


def _from_json(run: Mapping[str, Any]) -> StoredRun:
    info, data = run["info"], run.get("data", {})
    params, metrics, tags = (
        {entry["key"]: entry.get("value", "") for entry in data.get(part, [])} for part in PARTS
    )
    return StoredRun(
        run_id=info["run_id"],
        name=info.get("run_name", ""),
        status=info["status"],
        artifact_uri=info["artifact_uri"],
        params=params,
        metrics={key: float(value) for key, value in metrics.items()},
        tags=tags,
    )


def _from_client(
    client: "MlflowClient", experiment_id: str, among: str, page: int
) -> Iterator[StoredRun]:
    def ask(token: str | None) -> tuple[list["Run"], str | None]:
        found = client.search_runs(
            [experiment_id], among, max_results=page, order_by=[NEWEST_FIRST], page_token=token
        )
        return list(found), found.token

    for run in _pages(ask):
        info, data = run.info, run.data
        yield StoredRun(
            *(info.run_id, info.run_name, info.status, info.artifact_uri),
            *(dict(data.params), dict(data.metrics), dict(data.tags)),
        )


def _pages(ask: Callable[[str | None], tuple[list[Found], str | None]]) -> Iterator[Found]:
    token = None
    while True:
        found, token = ask(token)
        yield from found
        if not token:
            return
