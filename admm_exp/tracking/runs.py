"""Finished runs of a store, as the rows that comparisons are made of."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from admm_exp.errors import TrackingError
from admm_exp.tracking.address import (
    absolute_uri,
    require_reachable,
    sqlite_file,
    without_password,
)
from admm_exp.tracking.store import brief_requests, opened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

PAGE = 1000
DOWNLOADS_AT_ONCE = 8
FINAL = (
    *("accuracy", "accuracy_after_cut", "accuracy_drop", "val_accuracy", "macs", "params"),
    *("flops_ratio", "latency_ms"),
)
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
    """

    experiment: str
    experiment_id: str
    rows: list[dict[str, Any]]
    unfinished: list[dict[str, str]]
    repeats: int


def read_runs(
    tracking_uri: str,
    experiment_name: str,
    *,
    parent: str | None = None,
    among: str | None = None,
) -> Selection:
    """Read the finished runs of an experiment, with residuals and channels from report.json.

    Args:
        tracking_uri: Where MLflow keeps runs; a relative SQLite path starts at the current folder.
        experiment_name: The experiment; ignored if `parent` is given.
        parent: Id of a sweep's run; its children alone are read.
        among: MLflow's filter, such as "params.model = 'resnet8'".

    Raises:
        TrackingError: The store, the experiment, the parent or the filter is wrong, or nothing has
            finished.
    """
    uri = absolute_uri(tracking_uri)
    client = open_store(uri)
    with brief_requests():
        experiment = _experiment(client, experiment_name, parent)
        runs = [run for run in _search(client, experiment, parent, among) if _is_job(run)]
        finished = [run for run in runs if run.info.status == "FINISHED"]
        newest: dict[str, Run] = {}
        for run in finished:
            newest.setdefault(run.data.tags.get("config_hash", run.info.run_id), run)
        rows = [row_of(run) for run in newest.values()]
        _add_details(client, rows)
    unfinished = [_unfinished(run) for run in runs if run.info.status != "FINISHED"]
    if not rows:
        raise TrackingError(_nothing_finished(experiment.name, parent, among, unfinished))
    repeats = len(finished) - len(rows)
    return Selection(experiment.name, experiment.experiment_id, rows, unfinished, repeats)


def open_store(uri: str) -> "MlflowClient":
    """Return the client of a store that exists.

    Args:
        uri: Absolute tracking URI.

    Raises:
        TrackingError: There is no such store or it does not answer.
    """
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise TrackingError(
            f"there is no store at {database}: run admm-exp here first, or set tracking_uri"
        )
    require_reachable(uri)
    with opened(uri, Path()) as client:
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


def row_of(run: "Run") -> dict[str, Any]:
    """Turn a run into a row: its settings and what it reached."""
    params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
    row: dict[str, Any] = {
        "run_id": run.info.run_id,
        "run_name": run.info.run_name,
        "rho": _number(params.get("rho")),
        "sparsity": _number(params.get("sparsity")),
        "seed": int(params.get("seed", 0)),
        "method": params.get("method", tags.get("method", "admm")),
        "status": run.info.status,
        "run_dir": tags.get("run_dir"),
        "primal_residual": metrics.get("admm/primal_residual"),
        "settings": dict(params),
    }
    row |= {name: params.get(name) for name in NAMES}
    row |= {name: metrics.get(f"final/{name}") for name in FINAL}
    if row["val_accuracy"] is None:
        row["val_accuracy"] = metrics.get("finetune/val_accuracy")
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
) -> Iterator["Run"]:
    from mlflow.exceptions import MlflowException

    conditions = [] if parent is None else [f"tags.`mlflow.parentRunId` = '{parent}'"]
    conditions += [among] if among else []
    token = None
    while True:
        try:
            page = client.search_runs(
                [experiment.experiment_id],
                " and ".join(conditions),
                max_results=PAGE,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE" or not among:
                raise
            reason = str(error).partition(": ")[2].splitlines()[0].rstrip(".")
            raise TrackingError(
                f"filter={among} is not a filter of MLflow ({reason}): write it like "
                "filter=\"params.model = 'resnet8'\""
            ) from None
        yield from page
        token = page.token
        if not token:
            return


def _is_job(run: "Run") -> bool:
    return bool(run.data.tags.get("kind", "run") == "run")


def _add_details(client: "MlflowClient", rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        reports = pool.map(lambda row: _report(client, row["run_id"], Path(folder)), rows)
        for row, report in zip(rows, reports, strict=True):
            if report is not None:
                dense = report["models"]["dense"]
                row["iterations"] = report["admm"]["iterations"]
                row["layers"] = report["layers"]
                row["dense_macs"], row["dense_accuracy"] = dense["macs"], dense["test_accuracy"]


def _report(client: "MlflowClient", run_id: str, folder: Path) -> dict[str, Any] | None:
    """Fetch a run's report.json; None if this machine cannot reach it."""
    from mlflow.exceptions import MlflowException

    place = folder / run_id
    place.mkdir()
    with suppress(MlflowException, OSError, ValueError):
        path = Path(client.download_artifacts(run_id, "report.json", str(place)))
        report: dict[str, Any] = json.loads(path.read_text())
        return report
    return None


def _unfinished(run: "Run") -> dict[str, str]:
    error = run.data.tags.get("error", "")
    return {"run_name": run.info.run_name, "status": run.info.status, "error": error}


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
        return None if text is None else float(text)
    except ValueError:
        return None
