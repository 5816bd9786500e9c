"""Finished runs of a store, as the rows that comparisons are made of."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from admm_exp.errors import TrackingError
from admm_exp.results import REPORT, read_json
from admm_exp.tracking.address import (
    absolute_uri,
    require_reachable,
    sqlite_file,
    without_password,
)
from admm_exp.tracking.own_store import address_to_read, require_own_artifacts, require_store
from admm_exp.tracking.store import brief_requests, explained, opened
from admm_exp.tracking.stored_runs import StoredRun, stored_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DAMAGE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
DOWNLOADS_AT_ONCE = 8
FINAL = (
    *("accuracy", "accuracy_after_cut", "accuracy_drop", "val_accuracy", "macs", "params"),
    *("flops_ratio", "latency_ms", "training_macs", "training_seconds"),
)
LARGEST = 1e100
NAMES = ("dataset", "model", "metric", "schedule")


@dataclass(frozen=True)
class Selection:
    """The runs that were asked for.

    Args:
        experiment: Name of their experiment.
        experiment_id: Its id in the store.
        rows: Finished runs, as `admm_exp.report.comparison` describes them, newest first.
        unfinished: Name, status and error of every other run.
        repeats: Finished runs left out because a newer run has the same settings.
        without_report: Rows whose report.json was asked for and cannot be reached from here.
    """

    experiment: str
    experiment_id: str
    rows: list[dict[str, Any]]
    unfinished: list[dict[str, str]]
    repeats: int
    without_report: int = 0


Rows = list[dict[str, Any]]


def read_runs(
    tracking_uri: str,
    experiment_name: str,
    *,
    parent: str | None = None,
    among: str | None = None,
    detailed: Callable[[Rows], Sequence[Mapping[str, Any]]] = lambda rows: rows,
) -> Selection:
    """Read the finished runs of an experiment, with residuals and channels from report.json.

    Args:
        tracking_uri: Where MLflow keeps runs; a relative SQLite path starts at the current folder.
        experiment_name: The experiment; ignored if `parent` is given.
        parent: Id of a sweep's run; its children alone are read.
        among: MLflow's filter, such as "params.model = 'resnet8'".
        detailed: Chooses the rows whose report.json is read, a file each; all if not given.

    Raises:
        TrackingError: The store, the experiment, the parent or the filter is wrong, or nothing has
            finished.

    Examples:
        >>> import admm_exp
        >>> runs = admm_exp.read_runs("sqlite:///outputs/mlflow.db", "job").rows
        >>> sorted({(run["rho"], run["sparsity"]) for run in runs})
        [(0.5, 0.4)]
    """
    uri = absolute_uri(tracking_uri)
    client = open_store(uri, is_read=True)
    with explained(uri), brief_requests():
        experiment = _experiment(client, experiment_name, parent)
        found = _search(client, experiment, parent, among)
        runs = [run for run in found if run.tags.get("kind", "run") == "run"]
        finished = [run for run in runs if run.status == "FINISHED"]
        newest: dict[str, StoredRun] = {}
        for run in finished:
            newest.setdefault(run.tags.get("config_hash", run.run_id), run)
        rows = [row_of(run) for run in newest.values()]
        places = {run.run_id: run.artifact_uri for run in newest.values()}
        chosen = {row["run_id"] for row in detailed(rows)}
        without_report = _add_details(
            client, [row for row in rows if row["run_id"] in chosen], places
        )
    unfinished = [_unfinished(run) for run in runs if run.status != "FINISHED"]
    if not rows:
        raise TrackingError(_nothing_finished(experiment.name, parent, among, unfinished))
    repeats = len(finished) - len(rows)
    return Selection(
        experiment.name, experiment.experiment_id, rows, unfinished, repeats, without_report
    )


def open_store(uri: str, *, is_read: bool = False) -> "MlflowClient":
    """Return the client of a store that exists.

    Args:
        uri: Absolute tracking URI.
        is_read: It is asked alone, so that a database will do that nobody can write to.

    Raises:
        TrackingError: There is no such store or it does not answer.
    """
    database = sqlite_file(uri)
    if database is not None:
        require_store(database)
    require_reachable(uri)
    with opened(address_to_read(uri) if is_read else uri, Path()) as client:
        return client


def find_experiment(client: "MlflowClient", name: str) -> "Experiment":
    """Return the experiment called `name`.

    Raises:
        TrackingError: There is none; the sentence names the nearest one.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "active":
        return found
    names = [experiment.name for experiment in client.search_experiments()]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
    where = without_password(client.tracking_uri)
    raise TrackingError(f"experiment_name={name} is not in {where}; {hint}")


def row_of(run: StoredRun) -> dict[str, Any]:
    """Turn a run into a row: its settings and what it reached."""
    params, metrics, tags = run.params, run.metrics, run.tags
    row: dict[str, Any] = {
        "run_id": run.run_id,
        "run_name": run.name,
        "rho": _number(params.get("rho")),
        "sparsity": _number(params.get("sparsity")),
        "seed": _seed_of(run),
        "method": params.get("method", tags.get("method", "admm")),
        "status": run.status,
        "run_dir": tags.get("run_dir"),
        "primal_residual": metrics.get("admm/primal_residual"),
        "settings": params,
    }
    row |= {name: params.get(name) for name in NAMES}
    row |= {name: _plain(metrics.get(f"final/{name}")) for name in FINAL}
    if row["val_accuracy"] is None:
        row["val_accuracy"] = _plain(metrics.get("finetune/val_accuracy"))
    if None not in (row["accuracy"], row["accuracy_drop"]):
        row["dense_accuracy"] = row["accuracy"] + row["accuracy_drop"]
    if row["macs"] and row["flops_ratio"]:
        row["dense_macs"] = row["macs"] / row["flops_ratio"]
    return row


def _experiment(client: "MlflowClient", name: str, parent: str | None) -> "Experiment":
    from mlflow.exceptions import MlflowException

    if parent is None:
        return find_experiment(client, name)
    try:
        return client.get_experiment(client.get_run(parent).info.experiment_id)
    except MlflowException:
        where = without_password(client.tracking_uri)
        raise TrackingError(f"parent={parent} is no run of {where}") from None


def _search(
    client: "MlflowClient", experiment: "Experiment", parent: str | None, among: str | None
) -> Iterator[StoredRun]:
    from mlflow.exceptions import MlflowException

    conditions = [] if parent is None else [f"tags.`mlflow.parentRunId` = '{parent}'"]
    conditions += [among] if among else []
    try:
        yield from stored_runs(client, experiment.experiment_id, " and ".join(conditions))
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE" or not among:
            raise
        reason = str(error).partition(": ")[2].splitlines()[0].rstrip(".")
        raise TrackingError(
            f"filter={among} is not a filter of MLflow ({reason}): write it like "
            "filter=\"params.model = 'resnet8'\""
        ) from None


def _add_details(client: "MlflowClient", rows: Rows, places: Mapping[str, str]) -> int:
    """Add what stands in report.json alone, and return how many rows have none within reach."""
    missing = 0
    with TemporaryDirectory() as folder, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:

        def read(row: dict[str, Any]) -> dict[str, Any] | None:
            place = Path(folder, row["run_id"])
            return _details(client, places[row["run_id"]], place)

        for row, details in zip(rows, pool.map(read, rows), strict=True):
            missing += details is None
            row.update(details or {})
    return missing


def _details(client: "MlflowClient", artifact_uri: str, place: Path) -> dict[str, Any] | None:
    """Read what a run's report.json adds; None if it is damaged or out of reach from here.

    Args:
        client: Client of the store.
        artifact_uri: Where the run's files are; a folder of this machine is read as it is, since
            MLflow asks the store twice for every file.
        place: Folder for a download, not there yet, with the name of the run's id.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with suppress(MlflowException, TrackingError, OSError, *DAMAGE):
        require_own_artifacts(client.tracking_uri, place.name, artifact_uri)
        parts = urlsplit(artifact_uri)
        if parts.scheme in ("", "file"):
            path = Path(url2pathname(parts.path) if parts.scheme else artifact_uri, REPORT)
        else:
            place.mkdir()
            files = get_artifact_repository(artifact_uri, tracking_uri=client.tracking_uri)
            path = place / REPORT
            # its public sister lists the folder first, a request more for every run
            files._download_file(REPORT, str(path))
        return _read_details(path)
    return None


def _read_details(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = read_json(path)
    dense = report["models"].get("original", report["models"]["dense"])
    if not all(isinstance(dense[name], int | float) for name in ("macs", "test_accuracy")):
        raise TypeError("macs and test_accuracy must be numbers")
    return {
        "iterations": [dict(row) for row in report["admm"]["iterations"]],
        "layers": [dict(row) for row in report["layers"]],
        "dense_macs": dense["macs"],
        "dense_accuracy": dense["test_accuracy"],
    }


def _unfinished(run: StoredRun) -> dict[str, str]:
    error = run.tags.get("error", "")
    return {"run_name": run.name, "status": run.status, "error": error}


def _nothing_finished(
    experiment: str, parent: str | None, among: str | None, unfinished: Sequence[Mapping[str, str]]
) -> str:
    where = f"no run of experiment {experiment!r}"
    where += f" under parent={parent}" if parent else ""
    where += f" with filter={among}" if among else ""
    if not unfinished:
        return f"{where} was found: choose other runs"
    count = len(unfinished)
    states = ", ".join(sorted({run["status"] for run in unfinished}))
    return f"{where} has finished ({count} {'is' if count == 1 else 'are'} {states}): wait or rerun"


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else _plain(float(text))
    except ValueError:
        return None


def _plain(value: float | None) -> float | None:
    """Take what no run reaches, and no mean or axis can show, for nothing."""
    return value if value is not None and abs(value) < LARGEST else None


def _seed_of(run: StoredRun) -> int:
    if re.fullmatch(r"\d{1,20}", text := run.params.get("seed", "0")):
        return int(text)
    raise TrackingError(
        f"the run {run.name!r} ({run.run_id}) has the seed {text[:40]!r}, which is none of this "
        f"package's: leave it out with a filter, or delete it"
    )
